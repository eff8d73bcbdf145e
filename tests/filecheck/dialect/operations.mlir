// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s | bnncc-opt | filecheck %s

// Every operation prints as something that parses to the same operation.

// CHECK-LABEL: func.func @contractions
func.func @contractions(%bits: tensor<1x8x8x32x!bnn.bipolar>, %zeros: tensor<1x8x8x32x!bnn.ternary>, %real: tensor<1x8x8x32xf32>) {
  %w = bnn.constant dense<1> : tensor<16x3x3x32xi8> : tensor<16x3x3x32x!bnn.bipolar>
  // CHECK: %[[W:.+]] = bnn.constant dense<1> : tensor<16x3x3x32xi8> : tensor<16x3x3x32x!bnn.bipolar>
  %f = bnn.constant dense<0.5> : tensor<32x3x3x1xf32> : tensor<32x3x3x1xf32>
  %d = bnn.constant dense<0> : tensor<4x32xi8> : tensor<4x32x!bnn.ternary>
  %0 = bnn.conv2d %bits, %w {strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 0, 0>, groups = 1 : i64, pad_value = 1 : i64} : (tensor<1x8x8x32x!bnn.bipolar>, tensor<16x3x3x32x!bnn.bipolar>) -> tensor<1x4x4x16xi32>
  // CHECK: bnn.conv2d %{{.+}}, %[[W]] {strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 0, 0>, groups = 1 : i64, pad_value = 1 : i64} : (tensor<1x8x8x32x!bnn.bipolar>, tensor<16x3x3x32x!bnn.bipolar>) -> tensor<1x4x4x16xi32>
  %1 = bnn.conv2d %real, %f {strides = array<i64: 1, 1>, dilations = array<i64: 2, 2>, pads = array<i64: 0, 0, 0, 0>, groups = 32 : i64, pad_value = 0 : i64} : (tensor<1x8x8x32xf32>, tensor<32x3x3x1xf32>) -> tensor<1x4x4x32xf32>
  // CHECK: bnn.conv2d %{{.+}} groups = 32 : i64{{.+}} -> tensor<1x4x4x32xf32>
  %2 = bnn.dense %zeros, %d : (tensor<1x8x8x32x!bnn.ternary>, tensor<4x32x!bnn.ternary>) -> tensor<1x8x8x4xi32>
  // CHECK: bnn.dense %{{.+}} : (tensor<1x8x8x32x!bnn.ternary>, tensor<4x32x!bnn.ternary>) -> tensor<1x8x8x4xi32>
  func.return
}

// CHECK-LABEL: func.func @levels
func.func @levels(%real: tensor<2x3xf32>) -> tensor<2x4xi32> {
  %w = bnn.constant dense<-8> : tensor<4x3xi8> : tensor<4x3x!bnn.level<-8, 7>>
  // CHECK: bnn.constant dense<-8> : tensor<4x3xi8> : tensor<4x3x!bnn.level<-8, 7>>
  %0 = bnn.cast %real : (tensor<2x3xf32>) -> tensor<2x3x!bnn.level<0, 3>>
  // CHECK: bnn.cast %{{.+}} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.level<0, 3>>
  %1 = bnn.dense %0, %w : (tensor<2x3x!bnn.level<0, 3>>, tensor<4x3x!bnn.level<-8, 7>>) -> tensor<2x4xi32>
  // CHECK: bnn.dense %{{.+}} : (tensor<2x3x!bnn.level<0, 3>>, tensor<4x3x!bnn.level<-8, 7>>) -> tensor<2x4xi32>
  func.return %1 : tensor<2x4xi32>
}

// CHECK-LABEL: func.func @bits
func.func @bits(%real: tensor<2x3xf32>, %sum: tensor<2x3xi32>) -> tensor<2x3x!bnn.bipolar> {
  %0 = bnn.binarize %real {zero = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar>
  // CHECK: bnn.binarize %{{.+}} {zero = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar>
  %1 = bnn.binarize %real {zero = 0 : i64} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.ternary>
  // CHECK: bnn.binarize %{{.+}} {zero = 0 : i64} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.ternary>
  %2 = bnn.threshold %sum {thresholds = dense<[1, -2, 3]> : tensor<3xi32>, signs = dense<[1, -1, 1]> : tensor<3xi8>} : (tensor<2x3xi32>) -> tensor<2x3x!bnn.bipolar>
  // CHECK: bnn.threshold %{{.+}} {thresholds = dense<[1, -2, 3]> : tensor<3xi32>, signs = dense<[1, -1, 1]> : tensor<3xi8>}
  %3 = bnn.flip %2 {signs = dense<[-1, 1, 1]> : tensor<3xi8>} : (tensor<2x3x!bnn.bipolar>) -> tensor<2x3x!bnn.bipolar>
  // CHECK: bnn.flip %{{.+}} {signs = dense<[-1, 1, 1]> : tensor<3xi8>}
  func.return %3 : tensor<2x3x!bnn.bipolar>
}

// CHECK-LABEL: func.func @windows
func.func @windows(%real: tensor<1x8x8x4xf32>, %p: tensor<4xf32>) {
  %0 = bnn.batch_norm %real, %p, %p, %p, %p {epsilon = 1.000000e-03 : f32} : (tensor<1x8x8x4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<1x8x8x4xf32>
  // CHECK: bnn.batch_norm
  %1 = bnn.max_pool %real {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x8x8x4xf32>) -> tensor<1x4x4x4xf32>
  // CHECK: bnn.max_pool %{{.+}} {kernel = array<i64: 2, 2>
  %2 = bnn.mean_pool %real {kernel = array<i64: 8, 8>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<1x8x8x4xf32>) -> tensor<1x1x1x4xf32>
  // CHECK: bnn.mean_pool %{{.+}} count_outside = 0 : i64
  %3 = bnn.channel_mean %real : (tensor<1x8x8x4xf32>) -> tensor<1x8x8x1xf32>
  // CHECK: bnn.channel_mean
  func.return
}

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%x: tensor<2x3xf32>, %y: tensor<3xf32>) {
  %0 = bnn.cast %x : (tensor<2x3xf32>) -> tensor<2x3xi32>
  // CHECK: bnn.cast %{{.+}} : (tensor<2x3xf32>) -> tensor<2x3xi32>
  %1 = bnn.neg %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.neg
  %2 = bnn.add %x, %y : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.add %{{.+}}, %{{.+}} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %3 = bnn.compare %x, %y {kind = "ge"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xi1>
  // CHECK: bnn.compare %{{.+}}, %{{.+}} {kind = "ge"}
  %4 = bnn.select %3, %x, %y : (tensor<2x3xi1>, tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.select
  %5 = bnn.clip %x {low = 0.0 : f32, high = 0x7F800000 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.clip %{{.+}} {low = 0.000000e+00 : f32, high = 0x7f800000 : f32}
  %6 = bnn.prelu %x, %y : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.prelu
  %7 = bnn.softmax %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.softmax
  func.return
}

// CHECK-LABEL: func.func @layout
func.func @layout(%x: tensor<1x2x3x4xf32>) {
  %0 = bnn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x2x3x4xf32>) -> tensor<1x4x2x3xf32>
  // CHECK: bnn.transpose %{{.+}} {permutation = array<i64: 0, 3, 1, 2>}
  %1 = bnn.reshape %x : (tensor<1x2x3x4xf32>) -> tensor<1x24xf32>
  // CHECK: bnn.reshape %{{.+}} : (tensor<1x2x3x4xf32>) -> tensor<1x24xf32>
  %2 = bnn.pad %x {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 0, 0, 0>, value = -1.0 : f32} : (tensor<1x2x3x4xf32>) -> tensor<1x3x4x4xf32>
  // CHECK: bnn.pad %{{.+}} {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 0, 0, 0>, value = -1.000000e+00 : f32}
  %3 = bnn.concat %x, %x {axis = 3 : i64} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xf32>) -> tensor<1x2x3x8xf32>
  // CHECK: bnn.concat %{{.+}}, %{{.+}} {axis = 3 : i64}
  func.return
}

// CHECK-LABEL: func.func @regions
func.func @regions(%x: tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar> {
  %0 = "bnn.fused"(%x) ({
  ^bb0(%a: tensor<2x3xf32>):
    %c = bnn.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32> : tensor<3xf32>
    %s = bnn.mul %a, %c : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    %b = bnn.binarize %s {zero = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar>
    bnn.yield %b : tensor<2x3x!bnn.bipolar>
  }) : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar>
  // CHECK: "bnn.fused"(%{{.+}}) ({
  // CHECK-NEXT: ^{{.+}}(%{{.+}}: tensor<2x3xf32>):
  // CHECK: bnn.yield %{{.+}} : tensor<2x3x!bnn.bipolar>
  // CHECK-NEXT: }) : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar>
  func.return %0 : tensor<2x3x!bnn.bipolar>
}

// CHECK-LABEL: func.func @nodes
func.func @nodes(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.onnx %x {operator = "Elu", domain = "", opset = 17 : i64, parameters = {alpha = 0.5 : f32}, slots = array<i64: 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: bnn.onnx %{{.+}} {operator = "Elu", domain = "", opset = 17 : i64, parameters = {alpha = 5.000000e-01 : f32}, slots = array<i64: 0>}
  func.return %0 : tensor<2x3xf32>
}
