// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p hoist-time --split-input-file | filecheck %s

// A layer and its neurons: the layer takes all steps as its batch, the neurons are a loop of their own.

// CHECK: func.func @main
// CHECK: bnn.reshape %x : (tensor<5x1x3xf32>) -> tensor<5x3xf32>
// CHECK: bnn.dense %{{.+}} : (tensor<5x3xf32>, tensor<2x3xf32>) -> tensor<5x2xf32>
// CHECK: "bnn.scan"(%{{.+}}, %{{.+}}) <{trips = 5
// CHECK-NEXT: ^bb0(%{{.+}}: tensor<2xf32>, %{{.+}}: tensor<2xf32>):
// CHECK: bnn.compare
// CHECK-NOT: bnn.dense
// CHECK: bnn.yield
// CHECK: func.return %{{.+}} : tensor<5x1x2xf32>
func.func @main(%x: tensor<5x1x3xf32>) -> (tensor<5x1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %last, %all = "bnn.scan"(%x, %zero) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<1x3xf32>, %v: tensor<1x2xf32>):
    %w = bnn.constant dense<[[1.0, 0.5, 2.0], [0.5, 1.0, 1.0]]> : tensor<2x3xf32> : tensor<2x3xf32>
    %one = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
    %i = bnn.dense %s, %w : (tensor<1x3xf32>, tensor<2x3xf32>) -> tensor<1x2xf32>
    %u = bnn.add %v, %i : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    %b = bnn.compare %u, %one {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
    %f = bnn.cast %b : (tensor<1x2xi1>) -> tensor<1x2xf32>
    %n = bnn.sub %u, %f : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n, %f : tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<5x1x3xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<5x1x2xf32>)
  func.return %all : tensor<5x1x2xf32>
}

// -----

// Neurons that hear their own spikes through a layer stay in one loop with it; what comes before leaves it.

// CHECK: func.func @main
// CHECK: bnn.mul %{{.+}} : (tensor<5x2xf32>, tensor<f32>) -> tensor<5x2xf32>
// CHECK: "bnn.scan"
// CHECK: bnn.dense %{{.+}} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
// CHECK: bnn.yield
func.func @main(%x: tensor<5x1x2xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %last = "bnn.scan"(%x, %zero) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>):
    %k = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
    %w = bnn.constant dense<[[1.0, 0.5], [0.5, 1.0]]> : tensor<2x2xf32> : tensor<2x2xf32>
    %i = bnn.mul %s, %k : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
    %d = bnn.dense %v, %w : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
    %n = bnn.add %d, %i : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n : tensor<1x2xf32>
  }) : (tensor<5x1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>)
  func.return %last : tensor<1x2xf32>
}

// -----

// Two samples at a time: the state of each is its own, so the loop stays.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%x
// CHECK: bnn.mul
// CHECK: bnn.yield
func.func @main(%x: tensor<5x2x2xf32>) -> (tensor<2x2xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<2x2xf32> : tensor<2x2xf32>
  %last = "bnn.scan"(%x, %zero) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%s: tensor<2x2xf32>, %v: tensor<2x2xf32>):
    %k = bnn.constant dense<0.5> : tensor<f32> : tensor<f32>
    %i = bnn.mul %s, %k : (tensor<2x2xf32>, tensor<f32>) -> tensor<2x2xf32>
    %n = bnn.add %v, %i : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
    bnn.yield %n : tensor<2x2xf32>
  }) : (tensor<5x2x2xf32>, tensor<2x2xf32>) -> (tensor<2x2xf32>)
  func.return %last : tensor<2x2xf32>
}

// -----

// Images that the body reads turned are carried so; how often the loop runs is an input still.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%{{.+}}, %steps) <{trips = 5 : i64, operandSegmentSizes = array<i32: 0, 1, 0, 1>
// CHECK-NEXT: ^bb0(%{{.+}}: tensor<1x3x3x2xf32>):
func.func @main(%start: tensor<1x2x3x3xf32>, %steps: tensor<i64>) -> (tensor<1x2x3x3xf32>) attributes {bnn.inputs = ["start", "steps"], bnn.outputs = ["y"]} {
  %last = "bnn.scan"(%start, %steps) <{trips = 5 : i64, operandSegmentSizes = array<i32: 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%v: tensor<1x2x3x3xf32>):
    %i = bnn.transpose %v {permutation = array<i64: 0, 2, 3, 1>} : (tensor<1x2x3x3xf32>) -> tensor<1x3x3x2xf32>
    %n = bnn.tanh %i : (tensor<1x3x3x2xf32>) -> tensor<1x3x3x2xf32>
    %o = bnn.transpose %n {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x3x3x2xf32>) -> tensor<1x2x3x3xf32>
    bnn.yield %o : tensor<1x2x3x3xf32>
  }) : (tensor<1x2x3x3xf32>, tensor<i64>) -> (tensor<1x2x3x3xf32>)
  func.return %last : tensor<1x2x3x3xf32>
}

// -----

// A factor of every step, of fewer dimensions than the membrane, is cut as it is.

// CHECK: func.func @main
// CHECK: %[[g:.+]] = bnn.reshape %{{.+}} -> tensor<5x1xf32>
// CHECK: "bnn.scan"(%[[g]], %{{.+}}
// CHECK-NEXT: ^bb0(%{{.+}}: tensor<1xf32>, %{{.+}}: tensor<2xf32>
func.func @main(%x: tensor<5x1x2xf32>, %g: tensor<5x1xf32>) -> (tensor<1x2xf32>) attributes {bnn.inputs = ["x", "g"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<1x2xf32> : tensor<1x2xf32>
  %last = "bnn.scan"(%x, %g, %zero) <{trips = 5 : i64, operandSegmentSizes = array<i32: 2, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%s: tensor<1x2xf32>, %f: tensor<1xf32>, %v: tensor<1x2xf32>):
    %i = bnn.relu %s : (tensor<1x2xf32>) -> tensor<1x2xf32>
    %l = bnn.mul %v, %f : (tensor<1x2xf32>, tensor<1xf32>) -> tensor<1x2xf32>
    %n = bnn.add %l, %i : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n : tensor<1x2xf32>
  }) : (tensor<5x1x2xf32>, tensor<5x1xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>)
  func.return %last : tensor<1x2xf32>
}

// -----

// Images that the body reads as they are, too, are carried as they are.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%start, %steps)
// CHECK-NEXT: ^bb0(%{{.+}}: tensor<1x2x3x3xf32>):
func.func @main(%start: tensor<1x2x3x3xf32>, %steps: tensor<i64>) -> (tensor<1x2x3x3xf32>) attributes {bnn.inputs = ["start", "steps"], bnn.outputs = ["y"]} {
  %last = "bnn.scan"(%start, %steps) <{trips = 5 : i64, operandSegmentSizes = array<i32: 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%v: tensor<1x2x3x3xf32>):
    %i = bnn.transpose %v {permutation = array<i64: 0, 2, 3, 1>} : (tensor<1x2x3x3xf32>) -> tensor<1x3x3x2xf32>
    %j = bnn.transpose %v {permutation = array<i64: 0, 3, 2, 1>} : (tensor<1x2x3x3xf32>) -> tensor<1x3x3x2xf32>
    %k = bnn.reshape %v : (tensor<1x2x3x3xf32>) -> tensor<1x3x3x2xf32>
    %n = bnn.add %i, %j : (tensor<1x3x3x2xf32>, tensor<1x3x3x2xf32>) -> tensor<1x3x3x2xf32>
    %m = bnn.sub %n, %k : (tensor<1x3x3x2xf32>, tensor<1x3x3x2xf32>) -> tensor<1x3x3x2xf32>
    %o = bnn.transpose %m {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x3x3x2xf32>) -> tensor<1x2x3x3xf32>
    bnn.yield %o : tensor<1x2x3x3xf32>
  }) : (tensor<1x2x3x3xf32>, tensor<i64>) -> (tensor<1x2x3x3xf32>)
  func.return %last : tensor<1x2x3x3xf32>
}

// -----

// A state that is read one step later, and not by what makes it, is what all steps gave, behind the first: without
// the last of them; that is what the state is in the end.

// CHECK: func.func @main
// CHECK: %[[new:.+]] = bnn.tanh %{{.+}} : (tensor<5x2xf32>) -> tensor<5x2xf32>
// CHECK: bnn.pad %[[new]] {low = array<i64: -4, 0>, high = array<i64: 0, 0>
// CHECK: %[[late:.+]] = bnn.concat %start, %[[new]] {axis = 0 : i64}
// CHECK: bnn.pad %[[late]] {low = array<i64: 0, 0>, high = array<i64: -1, 0>
func.func @main(%x: tensor<5x1x2xf32>, %start: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<5x1x2xf32>) attributes {bnn.inputs = ["x", "start"], bnn.outputs = ["v", "y"]} {
  %last, %all = "bnn.scan"(%x, %start) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<1x2xf32>, %v: tensor<1x2xf32>):
    %n = bnn.tanh %s : (tensor<1x2xf32>) -> tensor<1x2xf32>
    %o = bnn.sub %s, %v : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
    bnn.yield %n, %o : tensor<1x2xf32>, tensor<1x2xf32>
  }) : (tensor<5x1x2xf32>, tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<5x1x2xf32>)
  func.return %last, %all : tensor<1x2xf32>, tensor<5x1x2xf32>
}
