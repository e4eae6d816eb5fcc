"""K-FAC: a Kronecker-factored approximation of the Fisher matrix, as a preconditioner of conjugate gradient."""
