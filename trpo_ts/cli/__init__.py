"""The command line ``trpo-ts``: train on any registered environment, resume, evaluate, report."""
