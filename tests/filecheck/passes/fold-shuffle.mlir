// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p fold-shuffle | filecheck %s

// Through arithmetic whose constants take the order of before, into the weights of a layer.
// CHECK-LABEL: func.func @layer
func.func @layer(%x: tensor<1x3xf32>) -> tensor<1x1xf32> {
  %i = bnn.constant dense<[2, 0, 1]> : tensor<3xi64> : tensor<3xi64>
  %g = bnn.onnx %x, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x3xf32>, tensor<3xi64>) -> tensor<1x3xf32>
  %c = bnn.constant dense<[10.0, 20.0, 30.0]> : tensor<3xf32> : tensor<3xf32>
  %a = bnn.add %g, %c : (tensor<1x3xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  %w = bnn.constant dense<[[1.0, 2.0, 3.0]]> : tensor<1x3xf32> : tensor<1x3xf32>
  %y = bnn.dense %a, %w : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x1xf32>
  // CHECK-NOT: Gather
  // CHECK: %[[C:.+]] = bnn.constant dense<[2.000000e+01, 3.000000e+01, 1.000000e+01]>
  // CHECK: %[[A:.+]] = bnn.add %x, %[[C]]
  // CHECK: %[[W:.+]] = bnn.constant dense<{{\[\[}}2.000000e+00, 3.000000e+00, 1.000000e+00]]>
  // CHECK: bnn.dense %[[A]], %[[W]]
  func.return %y : tensor<1x1xf32>
}

// Half of the shuffled channels are the first of each group, cut out in two pieces.
// CHECK-LABEL: func.func @half
func.func @half(%x: tensor<1x8xf32>) -> tensor<1x1xf32> {
  %i = bnn.constant dense<[0, 4, 1, 5, 2, 6, 3, 7]> : tensor<8xi64> : tensor<8xi64>
  %g = bnn.onnx %x, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x8xf32>, tensor<8xi64>) -> tensor<1x8xf32>
  %h = bnn.pad %g {low = array<i64: 0, 0>, high = array<i64: 0, -4>, value = 0.0 : f32} : (tensor<1x8xf32>) -> tensor<1x4xf32>
  %w = bnn.constant dense<[[1.0, 2.0, 3.0, 4.0]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %y = bnn.dense %h, %w : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x1xf32>
  // CHECK: %[[A:.+]] = bnn.pad %x {low = array<i64: 0, 0>, high = array<i64: 0, -6>
  // CHECK: %[[B:.+]] = bnn.pad %x {low = array<i64: 0, -4>, high = array<i64: 0, -2>
  // CHECK: %[[C:.+]] = bnn.concat %[[A]], %[[B]]
  // CHECK: %[[W:.+]] = bnn.constant dense<{{\[\[}}1.000000e+00, 3.000000e+00, 2.000000e+00, 4.000000e+00]]>
  // CHECK: bnn.dense %[[C]], %[[W]]
  func.return %y : tensor<1x1xf32>
}

// Nobody after it takes it: the layer before gives its outputs in another order.
// CHECK-LABEL: func.func @outputs
func.func @outputs(%x: tensor<1x2xf32>) -> tensor<1x3xf32> {
  %w = bnn.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32> : tensor<3x2xf32>
  %y = bnn.dense %x, %w : (tensor<1x2xf32>, tensor<3x2xf32>) -> tensor<1x3xf32>
  %i = bnn.constant dense<[2, 0, 1]> : tensor<3xi64> : tensor<3xi64>
  %g = bnn.onnx %y, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x3xf32>, tensor<3xi64>) -> tensor<1x3xf32>
  // CHECK-NOT: Gather
  // CHECK: %[[W:.+]] = bnn.constant dense<{{\[\[}}5.000000e+00, 6.000000e+00], [1.000000e+00, 2.000000e+00], [3.000000e+00, 4.000000e+00]]>
  // CHECK-NEXT: %[[Y:.+]] = bnn.dense %x, %[[W]]
  // CHECK-NEXT: func.return %[[Y]]
  func.return %g : tensor<1x3xf32>
}

// Neither way: a matrix is turned.
// CHECK-LABEL: func.func @matrix
func.func @matrix(%x: tensor<1x2x2x6xf32>) -> tensor<1x2x2x6xf32> {
  %i = bnn.constant dense<[0, 3, 1, 4, 2, 5]> : tensor<6xi64> : tensor<6xi64>
  %g = bnn.onnx %x, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 3 : i64}, slots = array<i64: 0, 1>} : (tensor<1x2x2x6xf32>, tensor<6xi64>) -> tensor<1x2x2x6xf32>
  // CHECK-NEXT: %[[M:.+]] = bnn.reshape %x : (tensor<1x2x2x6xf32>) -> tensor<1x4x2x3xf32>
  // CHECK-NEXT: %[[T:.+]] = bnn.transpose %[[M]] {permutation = array<i64: 0, 1, 3, 2>}
  // CHECK-NEXT: bnn.reshape %[[T]]
  func.return %g : tensor<1x2x2x6xf32>
}

// Near miss: an order that is no matrix stays a Gather; a reader of another order stays behind it.
// CHECK-LABEL: func.func @any_order
func.func @any_order(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %i = bnn.constant dense<[1, 0, 2, 3]> : tensor<4xi64> : tensor<4xi64>
  %g = bnn.onnx %x, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x4xf32>, tensor<4xi64>) -> tensor<1x4xf32>
  %y = bnn.add %g, %x : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
  // CHECK: %[[G:.+]] = bnn.onnx %x, %{{.*}} {operator = "Gather"
  // CHECK-NEXT: bnn.add %[[G]], %x
  func.return %y : tensor<1x4xf32>
}

// Near miss: the layer's outputs are read in their own order, too.
// CHECK-LABEL: func.func @two_orders
func.func @two_orders(%x: tensor<1x2xf32>) -> (tensor<1x4xf32>, tensor<1x4xf32>) {
  %w = bnn.constant dense<1.0> : tensor<4x2xf32> : tensor<4x2xf32>
  %y = bnn.dense %x, %w : (tensor<1x2xf32>, tensor<4x2xf32>) -> tensor<1x4xf32>
  %i = bnn.constant dense<[1, 0, 2, 3]> : tensor<4xi64> : tensor<4xi64>
  %g = bnn.onnx %y, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x4xf32>, tensor<4xi64>) -> tensor<1x4xf32>
  // CHECK: %[[Y:.+]] = bnn.dense
  // CHECK: bnn.onnx %[[Y]], %{{.*}} {operator = "Gather"
  func.return %g, %y : tensor<1x4xf32>, tensor<1x4xf32>
}
