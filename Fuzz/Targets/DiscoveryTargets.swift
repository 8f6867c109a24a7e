import ConfigurationFile
import Traffic

/// What tells a cluster its endpoints.
enum DiscoveryTargets {
  /// An answer of a DNS server: what is accepted can be connected to.
  static func srv(_ input: UnsafeRawBufferPointer) -> String? {
    do throws(ServiceRecords.Problem) {
      let answer = try ServiceRecords(input)
      if answer.records.count > ServiceRecords.limit { return "\(answer.records.count) records" }
      for record in answer.records {
        let isName = record.target.utf8.count <= 253 && !record.target.isEmpty && !record.target.hasSuffix(".")
        if !isName { return "the target `\(record.target)`" }
        if !(1...65535).contains(record.port) || !(0...65535).contains(record.weight) { return "\(record)" }
      }
    } catch {
      if error.description.isEmpty { return "refused, and not why" }
    }
    return nil
  }

  /// A file of endpoints: used as a whole, or refused with a place.
  static func endpointFile(_ input: UnsafeRawBufferPointer) -> String? {
    guard input.count < 1 << 16 else { return nil }
    switch EndpointFile.decode(Array(input), path: "/e/endpoints.yaml") {
    case .success(let endpoints):
      for endpoint in endpoints where endpoint.weight < 1 || endpoint.priority < 0 { return "\(endpoint)" }
      return nil
    case .failure(let problem):
      return problem.description.contains("error: ") ? nil : "refused, and not why: \(problem)"
    }
  }
}
