// swift-tools-version: 6.2
// The floor plan of docs/architecture.md, written down. A target imports lower floors only.

import PackageDescription

let strict: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let nio = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let asyncHTTPClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")

/// libFuzzer's archive: with it, `make fuzz` adds its program and measures which ways inputs take through these rooms.
let fuzzer = Context.environment["OUTRIDER_FUZZ"]
let measured: Set = ["Vocabulary", "Telemetry", "HTTP1", "HTTP2", "Traffic", "Logs", "ConfigurationFile", "Injection"]
let measuring: [SwiftSetting] = [
  // Optimised, and with the checks of a debug build: reading past the end of a buffer is a trap.
  .unsafeFlags(["-O", "-assert-config", "Debug", "-sanitize=fuzzer"])
]

/// What runs at a start, at a change or when somebody asks is built for size; what each request or record passes, for speed.
let cold: Set = [
  "ConfigurationFile", "Admin", "Injection", "InjectionWebhook", "Interception", "Supervisor", "SecretAgent", "Secrets",
  "MetricExporter",
]
let small: [SwiftSetting] = [.unsafeFlags(["-Osize"], .when(configuration: .release))]

/// A Swift target of the product, with the project's language settings.
func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(
    name: name, dependencies: dependencies,
    swiftSettings: strict + (fuzzer != nil && measured.contains(name) ? measuring : cold.contains(name) ? small : []))
}

/// The tests of the target of the same name.
func tests(_ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.target(name: name)] + dependencies, exclude: exclude, swiftSettings: strict)
}

let package = Package(
  name: "outrider",
  products: [.executable(name: "outrider", targets: ["outrider"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
  ],
  targets: [
    // Floor 0: what needs nothing of ours.
    .target(name: "CLinux"),
    .systemLibrary(name: "CYAML", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CPCRE2", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(name: "CCares", providers: [.apt(["libc-ares-dev"])]),
    .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
    room("Vocabulary"),
    room("Threads"),
    room("RegularExpressions", ["CPCRE2"]),
    room("Resilience"),
    room("Telemetry"),

    // Floor 1: pure decisions and formats.
    room("HTTP1", [nio]),
    room("HTTP2", ["HTTP1", nio]),
    room("Traffic", ["RegularExpressions", "Resilience", "Telemetry", "Vocabulary", crypto, cryptoExtras]),
    room("Interception", ["Vocabulary"]),
    room("Injection", ["Vocabulary", "CYAML"]),
    room("Logs", ["RegularExpressions", "Telemetry", "Vocabulary", "CLinux", "CZlib", crypto]),
    room("Secrets", ["Resilience", "Telemetry", "Vocabulary", "CLinux", crypto, cryptoExtras]),

    // Floor 2: drivers that touch the world.
    room("Transport", ["CLinux", "Threads", nio]),
    room(
      "TrafficProxy",
      [
        "Traffic", "HTTP1", "HTTP2", "Secrets", "Telemetry", "Threads", "Transport", "Vocabulary", "Resilience",
        "CLinux", "CCares", nio, nioPosix, nioSSL, nioTLS, nioHTTP1, asyncHTTPClient, logging,
      ]),
    room(
      "LogShipper",
      [
        "Logs", "RegularExpressions", "Secrets", "Telemetry", "Threads", "Vocabulary", "Resilience", "CLinux", nio,
        nioHTTP1, nioPosix,
        nioSSL, nioTLS,
        asyncHTTPClient, logging,
      ]),
    room(
      "SecretAgent",
      [
        "Secrets", "Telemetry", "Threads", "Vocabulary", "Resilience", "CLinux", nio, nioPosix, nioSSL, asyncHTTPClient,
        logging,
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    room(
      "TraceExporter",
      ["Telemetry", "Traffic", "Vocabulary", "Resilience", nio, nioHTTP1, asyncHTTPClient, logging]),
    room(
      "MetricExporter",
      ["Telemetry", "Traffic", "Vocabulary", nio, nioHTTP1, asyncHTTPClient, logging]),
    room("InjectionWebhook", ["Injection", "Vocabulary", nio, nioHTTP1, nioPosix, nioSSL, logging]),
    room("Supervisor", ["CLinux", "Telemetry", "Threads", "Vocabulary", "Resilience"]),

    // Floor 3: what users talk to.
    room(
      "ConfigurationFile",
      ["RegularExpressions", "Vocabulary", "Telemetry", "Traffic", "Logs", "Secrets", "Supervisor", "CYAML", "CLinux"]),
    room(
      "Admin",
      [
        "Telemetry", "Vocabulary", "CLinux", nio, nioPosix, logging,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
      ]),

    // Floor 4: commands and wiring.
    .executableTarget(
      name: "outrider",
      dependencies: [
        "CLinux", "Vocabulary", "Threads", "Resilience", "Telemetry", "HTTP1", "Traffic", "Logs", "Secrets",
        "TrafficProxy", "LogShipper", "SecretAgent", "TraceExporter", "MetricExporter", "Supervisor",
        "ConfigurationFile",
        "Admin",
        "Interception", "Injection", "InjectionWebhook",
        nio, nioPosix, logging, asyncHTTPClient,
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict + small,
      // Holds the C libraries' archives alone, so that the linker takes them and not the shared objects.
      linkerSettings: [
        .unsafeFlags([
          "-L\(Context.packageDirectory)/.build-static-libs",
          // Nothing loads this program as a library: no exported symbols.
          "-Xlinker", "--version-script=\(Context.packageDirectory)/dev/exports.map",
          "-Xlinker", "--icf=safe",
        ])
      ]),

    // Runs a supervisor with any worker command: the peer of SupervisorTests.
    .executableTarget(
      name: "supervisor-host", dependencies: ["Supervisor"], path: "Tests/Programs/SupervisorHost",
      swiftSettings: strict),

    // A log pipeline that kills itself when told: the peer of LogShipperTests.
    .executableTarget(
      name: "log-host", dependencies: ["LogShipper", "Logs", "Telemetry", nioPosix, logging],
      path: "Tests/Programs/LogHost", swiftSettings: strict),

    // What is fuzzed, and the tests that run the corpus through it.
    .target(
      name: "FuzzTargets",
      dependencies: [
        "HTTP1", "HTTP2", "Traffic", "Logs", "Secrets", "ConfigurationFile", "RegularExpressions", "Telemetry",
        "Vocabulary", nio, "Injection",
      ],
      path: "Fuzz/Targets", swiftSettings: strict + (fuzzer == nil ? [] : measuring)),
    tests("FuzzTargets"),

    tests("Vocabulary", ["Resilience"]),
    tests("RegularExpressions"),
    tests("Resilience"),
    tests("Telemetry"),
    tests("HTTP1", [nio]),
    // NIOHPACK is the oracle of our own HPACK.
    tests("HTTP2", ["HTTP1", nio, .product(name: "NIOHPACK", package: "swift-nio-http2")]),
    tests("Traffic", ["RegularExpressions", "Vocabulary", "Telemetry", "Resilience", crypto, cryptoExtras]),
    tests("Interception", ["Vocabulary"]),
    tests("Injection", ["Vocabulary"]),
    tests("Transport", [nio]),
    tests("Logs", ["RegularExpressions", "Vocabulary", "Telemetry", "Resilience"]),
    tests("Secrets", ["Vocabulary", "Telemetry", "Resilience", "CZlib", crypto]),
    tests(
      "TrafficProxy",
      [
        "Traffic", "HTTP1", "HTTP2", "RegularExpressions", "Telemetry", "Vocabulary", "Secrets", "CLinux", nio,
        nioPosix,
        nioSSL, nioTLS, crypto, logging,
      ]),
    tests("LogShipper", ["Logs", "Telemetry", "Vocabulary", "Secrets", "CLinux", "log-host", nio, nioPosix, logging]),
    tests(
      "SecretAgent",
      [
        "Secrets", "Telemetry", "Vocabulary", "CLinux", nio, nioPosix, logging,
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    tests("Supervisor", ["Telemetry", "Vocabulary", "Resilience", "CLinux", "supervisor-host"], exclude: ["Fixtures"]),
    tests(
      "ConfigurationFile",
      ["RegularExpressions", "Vocabulary", "Telemetry", "Resilience", "Traffic", "Logs", "Secrets", "Supervisor"]),
    tests("Admin", ["Telemetry", "Vocabulary", nio, nioPosix, logging]),
  ],
  swiftLanguageModes: [.v6]
)

if let fuzzer {
  package.targets += [
    .target(name: "CFuzzer", path: "Fuzz/CFuzzer"),
    .executableTarget(
      name: "outrider-fuzz", dependencies: ["CFuzzer", "FuzzTargets"], path: "Fuzz/Program", swiftSettings: strict,
      linkerSettings: [.unsafeFlags([fuzzer, "-lstdc++", "-lm"])]),
  ]
}
