"""Derivatives of a module as a function of one parameter vector, without Tianshou.

While a pass runs, :mod:`~trpo_ts.autodiff.flat_parameters` puts tensors in the place of the module's parameters,
:mod:`~trpo_ts.autodiff.layer_calls` hooks its layers, and, while an update runs,
:mod:`~trpo_ts.autodiff.fused_chains` replaces ``forward`` of its ``nn.Sequential`` chains. Each puts everything back
when it ends, also after an exception. Meanwhile no other thread may call the module.
"""
