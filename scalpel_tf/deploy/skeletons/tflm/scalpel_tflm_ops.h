// The custom operators of scalpel-tf for TensorFlow Lite Micro.
#ifndef SCALPEL_TFLM_OPS_H
#define SCALPEL_TFLM_OPS_H

#include "tensorflow/lite/micro/micro_common.h"

namespace scalpel {

// SCALPEL_FULLY_CONNECTED: x int8, values int8, indices uint8, rows int32 (out, 3) -> y int8.
const TFLMRegistration *RegisterFullyConnected();

// SCALPEL_CONV_2D: x int8, values int8, steps uint8, rows int32 (out, 4), planes int16 (n, 3)
// -> y int8.
const TFLMRegistration *RegisterConv2D();

}  // namespace scalpel

#endif  // SCALPEL_TFLM_OPS_H
