"""InceptionResnetV1 (Szegedy et al., AAAI 2017; the FaceNet variant), from facenet-pytorch.

facenet-pytorch would download its VGGFace2 weights; deepscan never does. A file that the
user has is given to a training run as its ``init``.
"""

from __future__ import annotations

from torch import Tensor

from deepscan.models.backbones.base import HALF, Backbone, register_backbone


class InceptionResnetV1(Backbone):
    """facenet-pytorch's network up to its 512-dimensional embedding, before the L2 normalisation."""

    feature_dim = 512

    def __init__(self) -> None:
        super().__init__()
        from facenet_pytorch import InceptionResnetV1 as Facenet

        # classify=True with an identity as classifier leaves the embedding unnormalised: its length
        # tells how sure the network is, and the temporal head can use that.
        self.net = Facenet(pretrained=None, classify=True, num_classes=1)
        del self.net.logits
        self.net.logits = _Identity()

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


class _Identity(Backbone):
    def forward(self, x: Tensor) -> Tensor:
        return x


@register_backbone(
    "inception_resnet_v1",
    input_size_px=160,
    mean=HALF,
    std=HALF,
    source="Szegedy et al., Inception-v4, Inception-ResNet, AAAI 2017; facenet-pytorch",
)
def inception_resnet_v1() -> Backbone:
    """24 million parameters, 512 features."""
    return InceptionResnetV1()
