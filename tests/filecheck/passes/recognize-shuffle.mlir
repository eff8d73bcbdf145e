// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-shuffle | filecheck %s

// CHECK-LABEL: func.func @shuffle
func.func @shuffle(%x: tensor<1x6x2x2xf32>, %a: tensor<5xi64>, %b: tensor<4xi64>) -> tensor<1x6x2x2xf32> {
  %s = bnn.onnx %x, %a {operator = "Reshape", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x6x2x2xf32>, tensor<5xi64>) -> tensor<1x2x3x2x2xf32>
  %t = bnn.onnx %s {operator = "Transpose", domain = "", opset = 17 : i64, parameters = {perm = array<i64: 0, 2, 1, 3, 4>}, slots = array<i64: 0>} : (tensor<1x2x3x2x2xf32>) -> tensor<1x3x2x2x2xf32>
  %y = bnn.onnx %t, %b {operator = "Reshape", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x3x2x2x2xf32>, tensor<4xi64>) -> tensor<1x6x2x2xf32>
  // CHECK-NEXT: %[[L:.+]] = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>}
  // CHECK-NEXT: %[[I:.+]] = bnn.constant dense<[0, 3, 1, 4, 2, 5]>
  // CHECK-NEXT: %[[G:.+]] = bnn.onnx %[[L]], %[[I]] {operator = "Gather"{{.*}}axis = 3
  // CHECK-NEXT: bnn.transpose %[[G]] {permutation = array<i64: 0, 3, 1, 2>}
  func.return %y : tensor<1x6x2x2xf32>
}

// CHECK-LABEL: func.func @gather
func.func @gather(%x: tensor<1x3x2x2xf32>) -> tensor<1x3x2x2xf32> {
  %i = bnn.constant dense<[2, 0, 1]> : tensor<3xi64> : tensor<3xi64>
  %y = bnn.onnx %x, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x3x2x2xf32>, tensor<3xi64>) -> tensor<1x3x2x2xf32>
  // CHECK-NEXT: bnn.transpose %x
  // CHECK-NEXT: bnn.constant dense<[2, 0, 1]>
  // CHECK-NEXT: bnn.onnx %{{.*}} {operator = "Gather"{{.*}}axis = 3
  func.return %y : tensor<1x3x2x2xf32>
}

// Near miss: a channel twice is no permutation.
// CHECK-LABEL: func.func @twice
func.func @twice(%x: tensor<1x3x2x2xf32>) -> tensor<1x3x2x2xf32> {
  %i = bnn.constant dense<[2, 0, 0]> : tensor<3xi64> : tensor<3xi64>
  %y = bnn.onnx %x, %i {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 1 : i64}, slots = array<i64: 0, 1>} : (tensor<1x3x2x2xf32>, tensor<3xi64>) -> tensor<1x3x2x2xf32>
  // CHECK-NOT: bnn.transpose
  // CHECK: axis = 1
  func.return %y : tensor<1x3x2x2xf32>
}

// Near miss: rows move with the channels.
// CHECK-LABEL: func.func @rows_too
func.func @rows_too(%x: tensor<1x2x2x2xf32>, %a: tensor<4xi64>) -> tensor<1x2x2x2xf32> {
  %s = bnn.onnx %x, %a {operator = "Reshape", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x2x2x2xf32>, tensor<4xi64>) -> tensor<1x2x2x2xf32>
  %t = bnn.onnx %s {operator = "Transpose", domain = "", opset = 17 : i64, parameters = {perm = array<i64: 0, 2, 1, 3>}, slots = array<i64: 0>} : (tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  %y = bnn.onnx %t, %a {operator = "Reshape", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x2x2x2xf32>, tensor<4xi64>) -> tensor<1x2x2x2xf32>
  // CHECK: operator = "Transpose"
  func.return %y : tensor<1x2x2x2xf32>
}
