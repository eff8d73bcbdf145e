// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p straighten-time --split-input-file | filecheck %s

// The first step, whose membrane is its current alone, becomes a trip from a membrane of -0.0.

// CHECK: func.func @main
// CHECK: %[[zero:.+]] = bnn.constant dense<-0.000000e+00>
// CHECK: "bnn.scan"(%x, %[[zero]]) <{trips = 5
// CHECK: func.return %{{.+}} : tensor<5x1x2xf32>
func.func @main(%x: tensor<5x1x2xf32>) -> (tensor<5x1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %1 = bnn.constant dense<1> : tensor<1xi64> : tensor<1xi64>
  %5 = bnn.constant dense<5> : tensor<1xi64> : tensor<1xi64>
  %axis = bnn.constant dense<0> : tensor<1xi64> : tensor<1xi64>
  %k = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
  %first = bnn.onnx %x, %0 {operator = "Gather", domain = "", opset = 20 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<5x1x2xf32>, tensor<i64>) -> tensor<1x2xf32>
  %rest = bnn.onnx %x, %1, %5, %axis {operator = "Slice", domain = "", opset = 20 : i64, parameters = {}, slots = array<i64: 0, 1, 2, 3>} : (tensor<5x1x2xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4x1x2xf32>
  %head = bnn.reshape %first : (tensor<1x2xf32>) -> tensor<1x1x2xf32>
  %last, %all = "bnn.scan"(%rest, %first) <{trips = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>):
    %half = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
    %l = bnn.mul %v, %half : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
    %n = bnn.add %l, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n, %n : tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<4x1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<4x1x2xf32>)
  %y = bnn.concat %head, %all {axis = 0 : i64} : (tensor<1x1x2xf32>, tensor<4x1x2xf32>) -> tensor<5x1x2xf32>
  func.return %y : tensor<5x1x2xf32>
}

// -----

// The same with a first membrane that is no step from zero: twice the current.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%{{.+}}, %{{.+}}) <{trips = 4
func.func @main(%x: tensor<5x1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %1 = bnn.constant dense<1> : tensor<1xi64> : tensor<1xi64>
  %5 = bnn.constant dense<5> : tensor<1xi64> : tensor<1xi64>
  %axis = bnn.constant dense<0> : tensor<1xi64> : tensor<1xi64>
  %first = bnn.onnx %x, %0 {operator = "Gather", domain = "", opset = 20 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<5x1x2xf32>, tensor<i64>) -> tensor<1x2xf32>
  %rest = bnn.onnx %x, %1, %5, %axis {operator = "Slice", domain = "", opset = 20 : i64, parameters = {}, slots = array<i64: 0, 1, 2, 3>} : (tensor<5x1x2xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4x1x2xf32>
  %twice = bnn.add %first, %first : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %last = "bnn.scan"(%rest, %twice) <{trips = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>):
    %half = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
    %l = bnn.mul %v, %half : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
    %n = bnn.add %l, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n : tensor<1x2xf32>
  }) : (tensor<4x1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>)
  func.return %last : tensor<1x2xf32>
}

// -----

// Spikes that are carried beside the membrane which they follow from are computed from it.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%x, %{{.+}}) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>
func.func @main(%x: tensor<5x1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %none = bnn.constant dense<0.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %last, %spikes = "bnn.scan"(%x, %zero, %none) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 2, 0, 0>, resultSegmentSizes = array<i32: 2, 0>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>, %f: tensor<1x2xf32>):
    %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
    %u = bnn.add %v, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %n = bnn.sub %u, %f : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %b = bnn.compare %n, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
    %g = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
    bnn.yield %n, %g : tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<5x1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>)
  func.return %last : tensor<1x2xf32>
}

// -----

// Before the first step the spikes are 1 although the membrane is 0: both are carried.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%x, %{{.+}}, %{{.+}}) <{trips = 5
func.func @main(%x: tensor<5x1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %ones = bnn.constant dense<1.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %last, %spikes = "bnn.scan"(%x, %zero, %ones) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 2, 0, 0>, resultSegmentSizes = array<i32: 2, 0>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>, %f: tensor<1x2xf32>):
    %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
    %u = bnn.add %v, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %n = bnn.sub %u, %f : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %b = bnn.compare %n, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
    %g = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
    bnn.yield %n, %g : tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<5x1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>)
  func.return %last : tensor<1x2xf32>
}

// -----

// Two values of all steps in one concatenation, the first step of each in front: both steps join the loop.

// CHECK: func.func @main
// CHECK: %{{.+}}, %[[all:.+]], %[[negative:.+]] = "bnn.scan"(%x, %{{.+}}) <{trips = 5
// CHECK: %[[y:.+]] = bnn.concat %[[all]], %[[negative]] {axis = 0 : i64}
// CHECK-NEXT: func.return %[[y]]
func.func @main(%x: tensor<5x1x2xf32>) -> (tensor<10x1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %0 = bnn.constant dense<0> : tensor<i64> : tensor<i64>
  %1 = bnn.constant dense<1> : tensor<1xi64> : tensor<1xi64>
  %5 = bnn.constant dense<5> : tensor<1xi64> : tensor<1xi64>
  %axis = bnn.constant dense<0> : tensor<1xi64> : tensor<1xi64>
  %first = bnn.onnx %x, %0 {operator = "Gather", domain = "", opset = 20 : i64, parameters = {axis = 0 : i64}, slots = array<i64: 0, 1>} : (tensor<5x1x2xf32>, tensor<i64>) -> tensor<1x2xf32>
  %rest = bnn.onnx %x, %1, %5, %axis {operator = "Slice", domain = "", opset = 20 : i64, parameters = {}, slots = array<i64: 0, 1, 2, 3>} : (tensor<5x1x2xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4x1x2xf32>
  %head = bnn.reshape %first : (tensor<1x2xf32>) -> tensor<1x1x2xf32>
  %neg = bnn.neg %first : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %head2 = bnn.reshape %neg : (tensor<1x2xf32>) -> tensor<1x1x2xf32>
  %last, %all, %all2 = "bnn.scan"(%rest, %first) <{trips = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 2>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>):
    %half = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
    %l = bnn.mul %v, %half : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
    %n = bnn.add %l, %s : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %q = bnn.neg %n : (tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n, %n, %q : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<4x1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<4x1x2xf32>, tensor<4x1x2xf32>)
  %y = bnn.concat %head, %all, %head2, %all2 {axis = 0 : i64} : (tensor<1x1x2xf32>, tensor<4x1x2xf32>, tensor<1x1x2xf32>, tensor<4x1x2xf32>) -> tensor<10x1x2xf32>
  func.return %y : tensor<10x1x2xf32>
}
