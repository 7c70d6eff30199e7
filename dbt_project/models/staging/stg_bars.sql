{{ bar_versions() }}
