"""The stage functions: each module's ``run`` takes the parameters and exactly the paths it reads and writes."""
