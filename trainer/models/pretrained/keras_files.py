"""Where Keras publishes the weights of keras.applications, with their heads for ImageNet. Imports nothing heavy.

tests/trainer/test_keras_files.py compares the rows with Keras.
"""

from __future__ import annotations

from typing import NamedTuple

URL = "https://storage.googleapis.com/"


class KerasFile(NamedTuple):
    """One file.

    Attributes:
      name: in Keras' cache.
      path: below URL.
      digest: MD5 or SHA-256, as Keras has it; empty where it has none.
    """

    name: str
    path: str
    digest: str


_TENSORFLOW = "tensorflow/keras-applications"
# fmt: off
FILES = {
    "ConvNeXtTiny": KerasFile(
        "convnext_tiny.h5",
        f"{_TENSORFLOW}/convnext/convnext_tiny.h5",
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    ),
    "ConvNeXtSmall": KerasFile(
        "convnext_small.h5",
        f"{_TENSORFLOW}/convnext/convnext_small.h5",
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    ),
    "ConvNeXtBase": KerasFile(
        "convnext_base.h5",
        f"{_TENSORFLOW}/convnext/convnext_base.h5",
        "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    ),
    "ConvNeXtLarge": KerasFile(
        "convnext_large.h5",
        f"{_TENSORFLOW}/convnext/convnext_large.h5",
        "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
    ),
    "ConvNeXtXLarge": KerasFile(
        "convnext_xlarge.h5",
        f"{_TENSORFLOW}/convnext/convnext_xlarge.h5",
        "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
    ),
    "DenseNet121": KerasFile(
        "densenet121_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels.h5",
        "9d60b8095a5708f2dcce2bca79d332c7",
    ),
    "DenseNet169": KerasFile(
        "densenet169_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/densenet/densenet169_weights_tf_dim_ordering_tf_kernels.h5",
        "d699b8f76981ab1b30698df4c175e90b",
    ),
    "DenseNet201": KerasFile(
        "densenet201_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/densenet/densenet201_weights_tf_dim_ordering_tf_kernels.h5",
        "1ceb130c1ea1b78c3bf6114dbdfd8807",
    ),
    "EfficientNetB0": KerasFile(
        "efficientnetb0.h5",
        "keras-applications/efficientnetb0.h5",
        "902e53a9f72be733fc0bcb005b3ebbac",
    ),
    "EfficientNetB1": KerasFile(
        "efficientnetb1.h5",
        "keras-applications/efficientnetb1.h5",
        "1d254153d4ab51201f1646940f018540",
    ),
    "EfficientNetB2": KerasFile(
        "efficientnetb2.h5",
        "keras-applications/efficientnetb2.h5",
        "b15cce36ff4dcbd00b6dd88e7857a6ad",
    ),
    "EfficientNetB3": KerasFile(
        "efficientnetb3.h5",
        "keras-applications/efficientnetb3.h5",
        "ffd1fdc53d0ce67064dc6a9c7960ede0",
    ),
    "EfficientNetB4": KerasFile(
        "efficientnetb4.h5",
        "keras-applications/efficientnetb4.h5",
        "18c95ad55216b8f92d7e70b3a046e2fc",
    ),
    "EfficientNetB5": KerasFile(
        "efficientnetb5.h5",
        "keras-applications/efficientnetb5.h5",
        "ace28f2a6363774853a83a0b21b9421a",
    ),
    "EfficientNetB6": KerasFile(
        "efficientnetb6.h5",
        "keras-applications/efficientnetb6.h5",
        "165f6e37dce68623721b423839de8be5",
    ),
    "EfficientNetB7": KerasFile(
        "efficientnetb7.h5",
        "keras-applications/efficientnetb7.h5",
        "8c03f828fec3ef71311cd463b6759d99",
    ),
    "EfficientNetV2B0": KerasFile(
        "efficientnetv2-b0.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-b0.h5",
        "21ecbf6da12460d5c40bb2f29ceb2188",
    ),
    "EfficientNetV2B1": KerasFile(
        "efficientnetv2-b1.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-b1.h5",
        "069f0534ff22adf035c89e2d9547a9dc",
    ),
    "EfficientNetV2B2": KerasFile(
        "efficientnetv2-b2.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-b2.h5",
        "424e49f28180edbde1e94797771950a7",
    ),
    "EfficientNetV2B3": KerasFile(
        "efficientnetv2-b3.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-b3.h5",
        "1f1fc43bd98a6e4fd8fdfd551e02c7a0",
    ),
    "EfficientNetV2S": KerasFile(
        "efficientnetv2-s.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-s.h5",
        "e1d88a8495beba45748fedd0cecbe016",
    ),
    "EfficientNetV2M": KerasFile(
        "efficientnetv2-m.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-m.h5",
        "a3bf6aa3276309f4fc6a34aa114c95cd",
    ),
    "EfficientNetV2L": KerasFile(
        "efficientnetv2-l.h5",
        f"{_TENSORFLOW}/efficientnet_v2/efficientnetv2-l.h5",
        "27e6d408b53c7ebc868fefa357689935",
    ),
    "InceptionResNetV2": KerasFile(
        "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
        "e693bd0210a403b3192acc6073ad2e96",
    ),
    "InceptionV3": KerasFile(
        "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        "9a0d58056eeedaa3f26cb7ebd46da564",
    ),
    "MobileNet": KerasFile(
        "mobilenet_1_0_224_tf.h5",
        f"{_TENSORFLOW}/mobilenet/mobilenet_1_0_224_tf.h5",
        "",
    ),
    "MobileNetV2": KerasFile(
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
        f"{_TENSORFLOW}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
        "",
    ),
    "MobileNetV3Large": KerasFile(
        "weights_mobilenet_v3_large_224_1.0_float.h5",
        f"{_TENSORFLOW}/mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float.h5",
        "59e551e166be033d707958cf9e29a6a7",
    ),
    "MobileNetV3Small": KerasFile(
        "weights_mobilenet_v3_small_224_1.0_float.h5",
        f"{_TENSORFLOW}/mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float.h5",
        "8768d4c2e7dee89b9d02b2d03d65d862",
    ),
    "NASNetLarge": KerasFile(
        "nasnet_large.h5",
        f"{_TENSORFLOW}/nasnet/NASNet-large.h5",
        "11577c9a518f0070763c2b964a382f17",
    ),
    "NASNetMobile": KerasFile(
        "nasnet_mobile.h5",
        f"{_TENSORFLOW}/nasnet/NASNet-mobile.h5",
        "020fb642bf7360b370c678b08e0adf61",
    ),
    "ResNet50": KerasFile(
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        "2cb95161c43110f7111970584f804107",
    ),
    "ResNet101": KerasFile(
        "resnet101_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/resnet/resnet101_weights_tf_dim_ordering_tf_kernels.h5",
        "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    ),
    "ResNet152": KerasFile(
        "resnet152_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/resnet/resnet152_weights_tf_dim_ordering_tf_kernels.h5",
        "100835be76be38e30d865e96f2aaae62",
    ),
    "ResNet50V2": KerasFile(
        "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels.h5",
        "3ef43a0b657b3be2300d5770ece849e0",
    ),
    "ResNet101V2": KerasFile(
        "resnet101v2_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/resnet/resnet101v2_weights_tf_dim_ordering_tf_kernels.h5",
        "6343647c601c52e1368623803854d971",
    ),
    "ResNet152V2": KerasFile(
        "resnet152v2_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/resnet/resnet152v2_weights_tf_dim_ordering_tf_kernels.h5",
        "a49b44d1979771252814e80f8ec446f9",
    ),
    "VGG16": KerasFile(
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        "64373286793e3c8b2b4e3219cbf3544b",
    ),
    "VGG19": KerasFile(
        "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels.h5",
        "cbe5617147190e668d6c5d5026f83318",
    ),
    "Xception": KerasFile(
        "xception_weights_tf_dim_ordering_tf_kernels.h5",
        f"{_TENSORFLOW}/xception/xception_weights_tf_dim_ordering_tf_kernels.h5",
        "0a58e3b7378bc2990ea3b43d5981f1f6",
    ),
}
# fmt: on
