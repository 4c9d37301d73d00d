"""What fits a machine, how fast it will run and what quality it costs. Pure: values in, values out."""
