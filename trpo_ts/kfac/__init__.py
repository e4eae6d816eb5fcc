"""K-FAC: a Kronecker-factored model of the Fisher matrix, as a preconditioner of conjugate gradient."""
