"""How fast training is on this machine, and where the time goes: `lenet bench`."""
