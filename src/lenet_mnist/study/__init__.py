"""What the commands do on disk: values from training, tuning and analysis go into run directories."""
