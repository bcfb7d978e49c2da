"""PyTorch networks for surgery_torch.py: torchvision's, and small ones like those of the tests."""

from __future__ import annotations

import torch
import torchvision
from torch import nn
from torch.nn import functional


def _standard(name, size=224, **options):
    return lambda: (getattr(torchvision.models, name)(weights=None, **options), (3, size, size))


def _conv(inputs, outputs, kernel=3, **options):
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Small(nn.Module):
    """Layers by name, a last Linear layer `logits`, and how a batch goes through them."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.parts, self._forward = nn.ModuleDict(modules), forward

    def forward(self, x):
        return self._forward(self.parts, x)


def _pooled(parts, x):
    return parts["logits"](x.mean((2, 3)))


def grouped():
    def forward(m, x):
        return _pooled(m, m["last"](m["again"](m["grouped"](m["stem"](x)))))

    return Small(
        forward,
        stem=_conv(4, 8),
        grouped=_conv(8, 12, groups=2),
        again=_conv(12, 12, groups=4),
        last=_conv(12, 6),
        logits=nn.Linear(6, 5),
    ), (4, 8, 8)


def channel_shuffle():
    def forward(m, x):
        y = m["one"](m["stem"](x))
        count, channels, height, width = y.shape  # read anew, that a cut one runs
        y = y.reshape(count, 3, channels // 3, height, width).transpose(1, 2)
        return _pooled(m, m["two"](y.reshape(count, channels, height, width)))

    return Small(
        forward,
        stem=_conv(3, 12),
        one=_conv(12, 12, 1, groups=3),
        two=_conv(12, 12, 1, groups=3),
        logits=nn.Linear(12, 5),
    ), (3, 8, 8)


def squeeze_excite():
    def forward(m, x):
        y = m["stem"](x)
        gate = functional.relu(m["squeeze"](y.mean((2, 3), keepdim=True)))
        y = m["project"](y * torch.sigmoid(m["excite"](gate)))
        gate = torch.sigmoid(m["excite2"](y.mean((2, 3))))
        return _pooled(m, y * gate[:, :, None, None])

    return Small(
        forward,
        stem=_conv(3, 12),
        squeeze=nn.Conv2d(12, 4, 1),
        excite=nn.Conv2d(4, 12, 1),
        project=_conv(12, 8),
        excite2=nn.Linear(8, 8),
        logits=nn.Linear(8, 5),
    ), (3, 8, 8)


def dense_block():
    def forward(m, x):
        y = m["stem"](x)
        for index in (1, 2, 3):
            new = m[f"narrow{index}"](functional.relu(m[f"pre{index}"](y)))
            new = m[f"grow{index}"](functional.relu(m[f"mid{index}"](new)))
            y = torch.cat([y, new], 1)
        y = functional.avg_pool2d(m["transition"](functional.relu(m["out"](y))), 2)
        return _pooled(m, functional.relu(m["last"](y)))

    parts = {"stem": nn.Conv2d(3, 8, 3, padding=1)}
    for index in (1, 2, 3):
        parts[f"pre{index}"] = nn.BatchNorm2d(4 + 4 * index)
        parts[f"narrow{index}"] = nn.Conv2d(4 + 4 * index, 8, 1, bias=False)
        parts[f"mid{index}"] = nn.BatchNorm2d(8)
        parts[f"grow{index}"] = nn.Conv2d(8, 4, 3, padding=1)
    parts |= {"out": nn.BatchNorm2d(20), "transition": nn.Conv2d(20, 6, 1)}
    parts |= {"last": nn.BatchNorm2d(6), "logits": nn.Linear(6, 5)}
    return Small(forward, **parts), (3, 8, 8)


def unet_upsampling():
    def forward(m, x):
        outer = m["outer"](x)
        inner = m["inner"](functional.max_pool2d(outer, 2))
        low = functional.interpolate(m["bottom"](functional.max_pool2d(inner, 2)), scale_factor=2)
        y = functional.interpolate(m["right"](torch.cat([inner, low], 1)), scale_factor=2)
        return m["logits"](m["last"](torch.cat([y, outer], 1)))

    return Small(
        forward,
        outer=_conv(3, 6),
        inner=_conv(6, 8),
        bottom=_conv(8, 12),
        right=_conv(20, 8),
        last=_conv(14, 6),
        logits=nn.Conv2d(6, 2, 1),
    ), (3, 8, 8)


def multi_head_attention():
    def forward(m, x):
        y = m["embed"](x)
        z = m["norm1"](y)
        y = y + m["attention"](z, z, z, need_weights=False)[0]
        y = y + m["contract"](functional.gelu(m["expand"](m["norm2"](y))))
        return m["logits"](y.mean(1))

    return Small(
        forward,
        embed=nn.Linear(6, 8),
        norm1=nn.LayerNorm(8),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
        norm2=nn.LayerNorm(8),
        expand=nn.Linear(8, 16),
        contract=nn.Linear(16, 8),
        logits=nn.Linear(8, 5),
    ), (9, 6)


def matmul_attention():
    def forward(m, x):
        scores = torch.softmax(m["query"](x) @ m["key"](x).transpose(1, 2) / 8**0.5, -1)
        y = functional.relu(m["out"](scores @ m["value"](x)))
        return m["logits"](y.mean(1))

    return Small(
        forward,
        query=nn.Linear(6, 8),
        key=nn.Linear(6, 8),
        value=nn.Linear(6, 12),
        out=nn.Linear(12, 10),
        logits=nn.Linear(10, 5),
    ), (9, 6)


def shared_layer():
    def forward(m, x):
        y = m["twice"](m["one"](x)) + m["twice"](m["two"](x))
        return _pooled(m, y)

    return Small(
        forward,
        one=_conv(3, 6),
        two=_conv(3, 6),
        twice=nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()),
        logits=nn.Linear(8, 5),
    ), (3, 8, 8)


def raw_operations():
    def forward(m, x):
        first, second = torch.split(m["one"](x) * 0.5 + 1, [8, 4], 1)
        y = m["two"](torch.cat([m["short"](second), functional.relu(first), x], 1))
        return m["logits"](functional.relu(m["hidden"](y.mean((2, 3)))))

    return Small(
        forward,
        one=_conv(3, 12),
        short=_conv(4, 6),
        two=_conv(17, 8),
        hidden=nn.Linear(8, 6),
        logits=nn.Linear(6, 5),
    ), (3, 8, 8)


# The same names as in surgery_rivals.py: each gives a model and the shape of one input.
NETWORKS = {
    "VGG16": _standard("vgg16"),
    "ResNet50": _standard("resnet50"),
    "DenseNet121": _standard("densenet121"),
    "MobileNetV2": _standard("mobilenet_v2"),
    "MobileNetV3Small": _standard("mobilenet_v3_small"),
    "EfficientNetB0": _standard("efficientnet_b0"),
    "InceptionV3": _standard("inception_v3", 299, aux_logits=False, init_weights=False),
    "ConvNeXtTiny": _standard("convnext_tiny"),
    "grouped": grouped,
    "shuffle_of_layers": channel_shuffle,
    "squeeze_excite": squeeze_excite,
    "dense_block": dense_block,
    "unet_upsampling": unet_upsampling,
    "multi_head_attention": multi_head_attention,
    "matmul_attention": matmul_attention,
    "shared_layer": shared_layer,
    "raw_operations": raw_operations,
}
