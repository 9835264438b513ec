"""Making a kernel before a boot: source, configuration, build, modules."""
