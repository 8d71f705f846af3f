"""The platform that the present trace is compiled for."""

import jax


def platform() -> str:
    """ "cpu", "gpu" or "tpu": of the mesh in scope, else of JAX's first devices.

    A mesh may be of devices that this machine does not have: that is how a program is
    compiled ahead of time for a pod. `jax.jit` traces anew for each such mesh.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
