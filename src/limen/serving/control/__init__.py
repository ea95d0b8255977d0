"""The control process: declares the desired state and reports the observed one."""
