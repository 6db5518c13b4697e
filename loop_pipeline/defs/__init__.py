"""What Dagster knows: wiring only. The rules are in the folders beside this one."""
