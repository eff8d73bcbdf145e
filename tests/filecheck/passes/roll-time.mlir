// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p roll-time --split-input-file | filecheck %s

// Four steps m = 0.5 m + x[t] become a loop; the slices of x are its sequence.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%x, %m) {{.*}}trips = 4 : i64
// CHECK-NEXT: ^{{.+}}(%{{.+}}: tensor<2xf32>, %{{.+}}: tensor<2xf32>):
// CHECK-NEXT: bnn.constant dense<5.000000e-01>
// CHECK-NEXT: operator = "Mul"
// CHECK-NEXT: operator = "Add"
// CHECK-NEXT: bnn.yield
func.func @main(%x: tensor<4x2xf32>, %m: tensor<2xf32>) -> tensor<2xf32> {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %i0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %x0 = bnn.onnx %x, %i0 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d0 = bnn.onnx %m, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m0 = bnn.onnx %d0, %x0 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i1 = bnn.constant dense<1> : tensor<i64> : tensor<i64>
  %x1 = bnn.onnx %x, %i1 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d1 = bnn.onnx %m0, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m1 = bnn.onnx %d1, %x1 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i2 = bnn.constant dense<2> : tensor<i64> : tensor<i64>
  %x2 = bnn.onnx %x, %i2 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d2 = bnn.onnx %m1, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m2 = bnn.onnx %d2, %x2 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i3 = bnn.constant dense<3> : tensor<i64> : tensor<i64>
  %x3 = bnn.onnx %x, %i3 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d3 = bnn.onnx %m2, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m3 = bnn.onnx %d3, %x3 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  func.return %m3 : tensor<2xf32>
}

// -----

// One step multiplies by another number.

// CHECK: func.func @main
// CHECK-NOT: bnn.scan
func.func @main(%x: tensor<4x2xf32>, %m: tensor<2xf32>) -> tensor<2xf32> {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %other = bnn.constant dense<2.5e-01> : tensor<f32> : tensor<f32>
  %i0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %x0 = bnn.onnx %x, %i0 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d0 = bnn.onnx %m, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m0 = bnn.onnx %d0, %x0 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i1 = bnn.constant dense<1> : tensor<i64> : tensor<i64>
  %x1 = bnn.onnx %x, %i1 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d1 = bnn.onnx %m0, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m1 = bnn.onnx %d1, %x1 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i2 = bnn.constant dense<2> : tensor<i64> : tensor<i64>
  %x2 = bnn.onnx %x, %i2 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d2 = bnn.onnx %m1, %other {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m2 = bnn.onnx %d2, %x2 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i3 = bnn.constant dense<3> : tensor<i64> : tensor<i64>
  %x3 = bnn.onnx %x, %i3 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d3 = bnn.onnx %m2, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m3 = bnn.onnx %d3, %x3 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  func.return %m3 : tensor<2xf32>
}

// -----

// The steps go through x in another order.

// CHECK: func.func @main
// CHECK-NOT: bnn.scan
func.func @main(%x: tensor<4x2xf32>, %m: tensor<2xf32>) -> tensor<2xf32> {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %i0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %x0 = bnn.onnx %x, %i0 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d0 = bnn.onnx %m, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m0 = bnn.onnx %d0, %x0 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i1 = bnn.constant dense<2> : tensor<i64> : tensor<i64>
  %x1 = bnn.onnx %x, %i1 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d1 = bnn.onnx %m0, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m1 = bnn.onnx %d1, %x1 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i2 = bnn.constant dense<1> : tensor<i64> : tensor<i64>
  %x2 = bnn.onnx %x, %i2 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d2 = bnn.onnx %m1, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m2 = bnn.onnx %d2, %x2 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i3 = bnn.constant dense<3> : tensor<i64> : tensor<i64>
  %x3 = bnn.onnx %x, %i3 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d3 = bnn.onnx %m2, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m3 = bnn.onnx %d3, %x3 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  func.return %m3 : tensor<2xf32>
}

// -----

// One step reads the state of the one before the last.

// CHECK: func.func @main
// CHECK-NOT: bnn.scan
func.func @main(%x: tensor<4x2xf32>, %m: tensor<2xf32>) -> tensor<2xf32> {
  %k = bnn.constant dense<5.0e-01> : tensor<f32> : tensor<f32>
  %i0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %x0 = bnn.onnx %x, %i0 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d0 = bnn.onnx %m, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m0 = bnn.onnx %d0, %x0 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i1 = bnn.constant dense<1> : tensor<i64> : tensor<i64>
  %x1 = bnn.onnx %x, %i1 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d1 = bnn.onnx %m0, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m1 = bnn.onnx %d1, %x1 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i2 = bnn.constant dense<2> : tensor<i64> : tensor<i64>
  %x2 = bnn.onnx %x, %i2 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d2 = bnn.onnx %m0, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m2 = bnn.onnx %d2, %x2 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %i3 = bnn.constant dense<3> : tensor<i64> : tensor<i64>
  %x3 = bnn.onnx %x, %i3 {operator = "Gather", domain = "", opset = 17 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<4x2xf32>, tensor<i64>) -> tensor<2xf32>
  %d3 = bnn.onnx %m2, %k {operator = "Mul", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %m3 = bnn.onnx %d3, %x3 {operator = "Add", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  func.return %m3 : tensor<2xf32>
}
