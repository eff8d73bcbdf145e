// SPDX-License-Identifier: Apache-2.0
// Made by `python -m bnncc.dialect.irdl`.
"builtin.module"() ({
  "irdl.dialect"() <{sym_name = "bnn"}> ({
    "irdl.type"() <{sym_name = "bipolar"}> ({
      "irdl.parameters"() {names = []} : () -> ()
    }) : () -> ()
    "irdl.type"() <{sym_name = "level"}> ({
      %0 = "irdl.any"() : () -> !irdl.attribute
      %1 = "irdl.any"() : () -> !irdl.attribute
      "irdl.parameters"(%0, %1) {names = ["low", "high"]} : (!irdl.attribute, !irdl.attribute) -> ()
    }) : () -> ()
    "irdl.type"() <{sym_name = "spike"}> ({
      "irdl.parameters"() {names = []} : () -> ()
    }) : () -> ()
    "irdl.type"() <{sym_name = "ternary"}> ({
      "irdl.parameters"() {names = []} : () -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "constant"}> ({
      %2 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%2) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "onnx"}> ({
      %3 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%3) {variadicity = #irdl<variadicity_array [<variadic>]>, names = ["inputs"]} : (!irdl.attribute) -> ()
      %4 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%4) {variadicity = #irdl<variadicity_array [<variadic>]>, names = ["outputs"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "conv2d"}> ({
      %5 = "irdl.any"() : () -> !irdl.attribute
      %6 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%5, %6) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["input", "weight"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %7 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%7) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "dense"}> ({
      %8 = "irdl.any"() : () -> !irdl.attribute
      %9 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%8, %9) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["input", "weight"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %10 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%10) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "binarize"}> ({
      %11 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%11) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %12 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%12) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "threshold"}> ({
      %13 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%13) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %14 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%14) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "flip"}> ({
      %15 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%15) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %16 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%16) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "batch_norm"}> ({
      %17 = "irdl.any"() : () -> !irdl.attribute
      %18 = "irdl.any"() : () -> !irdl.attribute
      %19 = "irdl.any"() : () -> !irdl.attribute
      %20 = "irdl.any"() : () -> !irdl.attribute
      %21 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%17, %18, %19, %20, %21) {variadicity = #irdl<variadicity_array [<single>, <single>, <single>, <single>, <single>]>, names = ["input", "scale", "bias", "mean", "variance"]} : (!irdl.attribute, !irdl.attribute, !irdl.attribute, !irdl.attribute, !irdl.attribute) -> ()
      %22 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%22) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "max_pool"}> ({
      %23 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%23) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %24 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%24) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "mean_pool"}> ({
      %25 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%25) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %26 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%26) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "count_pool"}> ({
      %27 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%27) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %28 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%28) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "channel_mean"}> ({
      %29 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%29) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %30 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%30) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "cast"}> ({
      %31 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%31) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %32 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%32) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "neg"}> ({
      %33 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%33) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %34 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%34) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "abs"}> ({
      %35 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%35) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %36 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%36) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "relu"}> ({
      %37 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%37) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %38 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%38) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "sqrt"}> ({
      %39 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%39) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %40 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%40) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "exp"}> ({
      %41 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%41) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %42 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%42) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "log"}> ({
      %43 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%43) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %44 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%44) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "tanh"}> ({
      %45 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%45) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %46 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%46) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "sigmoid"}> ({
      %47 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%47) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %48 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%48) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "round"}> ({
      %49 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%49) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %50 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%50) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "floor"}> ({
      %51 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%51) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %52 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%52) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "ceil"}> ({
      %53 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%53) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %54 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%54) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "erf"}> ({
      %55 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%55) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %56 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%56) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "add"}> ({
      %57 = "irdl.any"() : () -> !irdl.attribute
      %58 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%57, %58) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %59 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%59) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "sub"}> ({
      %60 = "irdl.any"() : () -> !irdl.attribute
      %61 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%60, %61) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %62 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%62) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "mul"}> ({
      %63 = "irdl.any"() : () -> !irdl.attribute
      %64 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%63, %64) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %65 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%65) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "div"}> ({
      %66 = "irdl.any"() : () -> !irdl.attribute
      %67 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%66, %67) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %68 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%68) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "max"}> ({
      %69 = "irdl.any"() : () -> !irdl.attribute
      %70 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%69, %70) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %71 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%71) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "min"}> ({
      %72 = "irdl.any"() : () -> !irdl.attribute
      %73 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%72, %73) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %74 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%74) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "pow"}> ({
      %75 = "irdl.any"() : () -> !irdl.attribute
      %76 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%75, %76) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %77 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%77) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "compare"}> ({
      %78 = "irdl.any"() : () -> !irdl.attribute
      %79 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%78, %79) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %80 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%80) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "select"}> ({
      %81 = "irdl.any"() : () -> !irdl.attribute
      %82 = "irdl.any"() : () -> !irdl.attribute
      %83 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%81, %82, %83) {variadicity = #irdl<variadicity_array [<single>, <single>, <single>]>, names = ["condition", "then", "otherwise"]} : (!irdl.attribute, !irdl.attribute, !irdl.attribute) -> ()
      %84 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%84) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "clip"}> ({
      %85 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%85) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %86 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%86) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "prelu"}> ({
      %87 = "irdl.any"() : () -> !irdl.attribute
      %88 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%87, %88) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["input", "slope"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %89 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%89) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "mul_shift"}> ({
      %90 = "irdl.any"() : () -> !irdl.attribute
      %91 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%90, %91) {variadicity = #irdl<variadicity_array [<single>, <single>]>, names = ["left", "right"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %92 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%92) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "lookup"}> ({
      %93 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%93) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %94 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%94) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "softmax"}> ({
      %95 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%95) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %96 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%96) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "transpose"}> ({
      %97 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%97) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %98 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%98) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "reshape"}> ({
      %99 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%99) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %100 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%100) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "pad"}> ({
      %101 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%101) {variadicity = #irdl<variadicity_array [<single>]>, names = ["input"]} : (!irdl.attribute) -> ()
      %102 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%102) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "concat"}> ({
      %103 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%103) {variadicity = #irdl<variadicity_array [<variadic>]>, names = ["inputs"]} : (!irdl.attribute) -> ()
      %104 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%104) {variadicity = #irdl<variadicity_array [<single>]>, names = ["result"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "fused"}> ({
      %105 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%105) {variadicity = #irdl<variadicity_array [<variadic>]>, names = ["inputs"]} : (!irdl.attribute) -> ()
      %106 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%106) {variadicity = #irdl<variadicity_array [<variadic>]>, names = ["outputs"]} : (!irdl.attribute) -> ()
      %107 = "irdl.region"() : () -> !irdl.region
      "irdl.regions"(%107) {names = ["body"]} : (!irdl.region) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "yield"}> ({
      %108 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%108) {variadicity = #irdl<variadicity_array [<variadic>]>, names = ["values"]} : (!irdl.attribute) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "neuron"}> ({
      %109 = "irdl.any"() : () -> !irdl.attribute
      %110 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%109, %110) {variadicity = #irdl<variadicity_array [<variadic>, <variadic>]>, names = ["inputs", "states"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %111 = "irdl.any"() : () -> !irdl.attribute
      %112 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%111, %112) {variadicity = #irdl<variadicity_array [<variadic>, <variadic>]>, names = ["outputs", "new_states"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %113 = "irdl.region"() : () -> !irdl.region
      "irdl.regions"(%113) {names = ["body"]} : (!irdl.region) -> ()
    }) : () -> ()
    "irdl.operation"() <{sym_name = "scan"}> ({
      %114 = "irdl.any"() : () -> !irdl.attribute
      %115 = "irdl.any"() : () -> !irdl.attribute
      %116 = "irdl.any"() : () -> !irdl.attribute
      %117 = "irdl.any"() : () -> !irdl.attribute
      "irdl.operands"(%114, %115, %116, %117) {variadicity = #irdl<variadicity_array [<variadic>, <variadic>, <variadic>, <optional>]>, names = ["sequences", "initial", "invariants", "count"]} : (!irdl.attribute, !irdl.attribute, !irdl.attribute, !irdl.attribute) -> ()
      %118 = "irdl.any"() : () -> !irdl.attribute
      %119 = "irdl.any"() : () -> !irdl.attribute
      "irdl.results"(%118, %119) {variadicity = #irdl<variadicity_array [<variadic>, <variadic>]>, names = ["final", "stacked"]} : (!irdl.attribute, !irdl.attribute) -> ()
      %120 = "irdl.region"() : () -> !irdl.region
      "irdl.regions"(%120) {names = ["body"]} : (!irdl.region) -> ()
    }) : () -> ()
  }) : () -> ()
}) : () -> ()
