"""The sensors: one module each. Every one starts STOPPED unless the settings say otherwise."""
