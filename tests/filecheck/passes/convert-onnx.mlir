// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-onnx | filecheck %s

// CHECK-LABEL: func.func @conv
func.func @conv(%x: tensor<1x4x9x9xf32>) -> tensor<1x2x5x5xf32> {
  %w = bnn.constant dense<0.5> : tensor<2x2x3x3xf32> : tensor<2x2x3x3xf32>
  %b = bnn.constant dense<[1.0, 2.0]> : tensor<2xf32> : tensor<2xf32>
  %y = bnn.onnx %x, %w, %b {operator = "Conv", domain = "", opset = 17 : i64, parameters = {group = 2 : i64, auto_pad = "SAME_UPPER", strides = [2 : i64, 2 : i64]}, slots = array<i64: 0, 1, 2>, source = ["y", array<i64: 0, 1, 2, 3>]} : (tensor<1x4x9x9xf32>, tensor<2x2x3x3xf32>, tensor<2xf32>) -> tensor<1x2x5x5xf32>
  // CHECK: %[[X:.+]] = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>}
  // CHECK-NEXT: bnn.constant dense<5.000000e-01> : tensor<2x3x3x2xf32>
  // CHECK-NEXT: bnn.conv2d %[[X]], %{{.+}} {strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 2 : i64, pad_value = 0 : i64}
  // CHECK: bnn.add %{{.+}}, %{{.+}} {source = ["y", array<i64: 0, 2, 3, 1>]} : (tensor<1x5x5x2xf32>, tensor<2xf32>)
  // CHECK-NEXT: bnn.transpose %{{.+}} {source = ["y", array<i64: 0, 1, 2, 3>], permutation = array<i64: 0, 3, 1, 2>}
  func.return %y : tensor<1x2x5x5xf32>
}

// A sequence is an image of one row.
// CHECK-LABEL: func.func @conv_1d
func.func @conv_1d(%x: tensor<1x4x9xf32>) -> tensor<1x2x8xf32> {
  %w = bnn.constant dense<0.5> : tensor<2x4x3xf32> : tensor<2x4x3xf32>
  %y = bnn.onnx %x, %w {operator = "Conv", domain = "", opset = 17 : i64, parameters = {pads = [1 : i64, 0 : i64]}, slots = array<i64: 0, 1>} : (tensor<1x4x9xf32>, tensor<2x4x3xf32>) -> tensor<1x2x8xf32>
  // CHECK: bnn.conv2d {{.+}} pads = array<i64: 0, 1, 0, 0>{{.+}} : (tensor<1x1x9x4xf32>, tensor<2x1x3x4xf32>) -> tensor<1x1x8x2xf32>
  func.return %y : tensor<1x2x8xf32>
}

// CHECK-LABEL: func.func @gemm
func.func @gemm(%x: tensor<3x1xf32>) -> tensor<1x2xf32> {
  %w = bnn.constant dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32> : tensor<2x3xf32>
  %b = bnn.constant dense<[1.0, 2.0]> : tensor<2xf32> : tensor<2xf32>
  %y = bnn.onnx %x, %w, %b {operator = "Gemm", domain = "", opset = 13 : i64, parameters = {alpha = 2.0 : f32, beta = 0.5 : f32, transA = 1 : i64, transB = 1 : i64}, slots = array<i64: 0, 1, 2>} : (tensor<3x1xf32>, tensor<2x3xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // CHECK: bnn.transpose %x {permutation = array<i64: 1, 0>}
  // CHECK: bnn.constant dense<{{\[\[}}2.000000e+00, 4.000000e+00, 6.000000e+00], [8.000000e+00, 1.000000e+01, 1.200000e+01]]>
  // CHECK-NEXT: bnn.dense
  // CHECK-NEXT: bnn.constant dense<[5.000000e-01, 1.000000e+00]>
  // CHECK-NEXT: bnn.add
  func.return %y : tensor<1x2xf32>
}

// The zeros of the pads count, what ceil_mode adds does not.
// CHECK-LABEL: func.func @average_pool
func.func @average_pool(%x: tensor<1x1x4x4xf32>) -> tensor<1x1x3x3xf32> {
  %y = bnn.onnx %x {operator = "AveragePool", domain = "", opset = 17 : i64, parameters = {kernel_shape = [3 : i64, 3 : i64], strides = [2 : i64, 2 : i64], pads = [1 : i64, 1 : i64, 0 : i64, 0 : i64], ceil_mode = 1 : i64, count_include_pad = 1 : i64}, slots = array<i64: 0>} : (tensor<1x1x4x4xf32>) -> tensor<1x1x3x3xf32>
  // CHECK: bnn.pad %{{.+}} {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 0, 0, 0>, value = 0.000000e+00 : f32}
  // CHECK-NEXT: bnn.mean_pool %{{.+}} pads = array<i64: 0, 0, 2, 2>, count_outside = 0 : i64
  func.return %y : tensor<1x1x3x3xf32>
}

// CHECK-LABEL: func.func @reduce_mean
func.func @reduce_mean(%x: tensor<1x3x4x5xf32>) -> (tensor<1x1x4x5xf32>, tensor<1x3xf32>) {
  %0 = bnn.onnx %x {operator = "ReduceMean", domain = "", opset = 13 : i64, parameters = {axes = [1 : i64], keepdims = 1 : i64}, slots = array<i64: 0>} : (tensor<1x3x4x5xf32>) -> tensor<1x1x4x5xf32>
  // CHECK: bnn.channel_mean %{{.+}} : (tensor<1x4x5x3xf32>) -> tensor<1x4x5x1xf32>
  %a = bnn.constant dense<[-1, -2]> : tensor<2xi64> : tensor<2xi64>
  %1 = bnn.onnx %x, %a {operator = "ReduceMean", domain = "", opset = 18 : i64, parameters = {keepdims = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<1x3x4x5xf32>, tensor<2xi64>) -> tensor<1x3xf32>
  // CHECK: bnn.mean_pool %{{.+}} {kernel = array<i64: 4, 5>
  func.return %0, %1 : tensor<1x1x4x5xf32>, tensor<1x3xf32>
}

// CHECK-LABEL: func.func @quantizers
func.func @quantizers(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %s = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %z = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %n = bnn.constant dense<8.0> : tensor<f32> : tensor<f32>
  %0 = bnn.onnx %x, %s, %z, %n {operator = "Quant", domain = "qonnx.custom_op.general", opset = 1 : i64, parameters = {signed = 1 : i64, narrow = 1 : i64, rounding_mode = "ROUND"}, slots = array<i64: 0, 1, 2, 3>} : (tensor<1x4xf32>, tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: bnn.div
  // CHECK: bnn.clip %{{.+}} {low = -1.270000e+02 : f32, high = 1.270000e+02 : f32}
  // CHECK-NEXT: bnn.round
  // CHECK: bnn.mul
  %1 = bnn.onnx %0, %s {operator = "BipolarQuant", domain = "onnx.brevitas", opset = 1 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
  // CHECK: bnn.binarize %{{.+}} {zero = 1 : i64}
  // CHECK-NEXT: bnn.cast
  // CHECK: bnn.mul
  func.return %1 : tensor<1x4xf32>
}

// Softmax over a dimension that is not the last; before opset 13 it runs over everything from `axis` on.
// CHECK-LABEL: func.func @softmax
func.func @softmax(%x: tensor<1x3x4xf32>) -> tensor<1x3x4xf32> {
  %0 = bnn.onnx %x {operator = "Softmax", domain = "", opset = 13 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0>} : (tensor<1x3x4xf32>) -> tensor<1x3x4xf32>
  // CHECK: bnn.softmax %{{.+}} : (tensor<1x4x3xf32>) -> tensor<1x4x3xf32>
  %1 = bnn.onnx %0 {operator = "Softmax", domain = "", opset = 11 : i64, parameters = {}, slots = array<i64: 0>} : (tensor<1x3x4xf32>) -> tensor<1x3x4xf32>
  // CHECK: bnn.softmax %{{.+}} : (tensor<1x12xf32>) -> tensor<1x12xf32>
  func.return %1 : tensor<1x3x4xf32>
}

// Near misses stay, with the reason.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%x: tensor<1x2x4x4xf32>, %d: tensor<1x4xf64>) -> (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>, tensor<1x4xf64>, tensor<1x2x6x6xf32>) {
  %p = bnn.constant dense<1.0> : tensor<2xf32> : tensor<2xf32>
  %0 = bnn.onnx %x, %p, %p, %p, %p {operator = "BatchNormalization", domain = "", opset = 15 : i64, parameters = {training_mode = 1 : i64}, slots = array<i64: 0, 1, 2, 3, 4>} : (tensor<1x2x4x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<1x2x4x4xf32>
  // CHECK: bnn.onnx %{{.+}} {reason = "it is in training mode", hint = "call model.eval() before exporting", operator = "BatchNormalization"
  %1 = bnn.onnx %0, %x {operator = "MatMul", domain = "", opset = 13 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  // CHECK: bnn.onnx %{{.+}} {reason = "both of its operands are computed at run time"
  %2 = bnn.onnx %d {operator = "Relu", domain = "", opset = 14 : i64, parameters = {}, slots = array<i64: 0>} : (tensor<1x4xf64>) -> tensor<1x4xf64>
  // CHECK: bnn.onnx %{{.+}} {reason = "its inputs are of types f64"
  %pads = bnn.constant dense<[0, 0, 1, 1, 0, 0, 1, 1]> : tensor<8xi64> : tensor<8xi64>
  %3 = bnn.onnx %x, %pads {operator = "Pad", domain = "", opset = 13 : i64, parameters = {mode = "reflect"}, slots = array<i64: 0, 1>} : (tensor<1x2x4x4xf32>, tensor<8xi64>) -> tensor<1x2x6x6xf32>
  // CHECK: bnn.onnx %{{.+}} {reason = "it pads by mode 'reflect'"
  func.return %0, %1, %2, %3 : tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>, tensor<1x4xf64>, tensor<1x2x6x6xf32>
}
