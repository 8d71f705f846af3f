"""What the objectives of transformers over codes and text have in common."""

from jax import Array

from cogjax.models.image_lm import PARAM_AXES, ImageLM, matrix_axes
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.tasks import resblock_scales
from cogjax.train.task import Task


class TransformerTask(Task):
    """A task whose parameters are a transformer's.

    Its state holds the resblocks' gradient scales, if the network has them.
    """

    matrix_axes = staticmethod(matrix_axes)
    param_axes = PARAM_AXES

    def __init__(self, model: ImageLMConfig):
        self.config, self.model = model, ImageLM(model)
        self.loss_scale = resblock_scales.needs_loss_scale(model)

    def init(self, key: Array):
        """Returns (params, state) of a new run."""
        return resblock_scales.init(self.model, key)

    def after_gradients(self, state, grads):
        """The resblocks' scales fall where their gradients are not finite."""
        return resblock_scales.rescale(state, grads)
