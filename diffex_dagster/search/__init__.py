"""Which features to edit next: gate, beam, joint combination. Pure numpy; knows nothing of torch or Dagster."""
