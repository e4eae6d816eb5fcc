"""What is checked before an update changes anything: parameter values, networks, distributions, rollouts, policies."""
