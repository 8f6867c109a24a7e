import Traffic
import Vocabulary

/// Retries, health checks and ejection.
extension ConfigurationDecoder {
  func retries(_ view: TreeView) -> RetryConfiguration {
    var retries = RetryConfiguration()
    let isShort = view.isScalar
    (isShort ? view.int : view["attempts"].int).assign(to: &retries.attempts)
    if !isShort, view["on"].exists {
      retries.conditions.formUnion(view["on"].elements.compactMap { $0.choice(RetryConfiguration.Condition.self) })
    } else if retries.attempts > 0 {
      retries.conditions.formUnion([.gatewayError, .reset])
    }
    if isShort { return retries }
    view["per_try_timeout"].duration.assign(to: &retries.perTryTimeout)
    view["backoff"]["base"].duration.assign(to: &retries.backoffBase)
    view["backoff"]["cap"].duration.assign(to: &retries.backoffCap)
    view["retry_after_max"].duration.assign(to: &retries.retryAfterMax)
    retries.hedgeAfter = view["hedge"]["after"].duration
    retries.statuses = view["status_codes"].elements.compactMap(\.int)
    retries.responseHeaders = fields(view["response_headers"]).map {
      RetryConfiguration.MarkingField(name: $0.name, value: $0.value == "true" ? nil : $0.value)
    }
    imply(.retriableStatusCodes, by: "status_codes", isNamed: !retries.statuses.isEmpty, view, &retries)
    imply(.retriableHeaders, by: "response_headers", isNamed: !retries.responseHeaders.isEmpty, view, &retries)
    return retries
  }

  private func imply(
    _ condition: RetryConfiguration.Condition, by key: String, isNamed: Bool, _ view: TreeView,
    _ retries: inout RetryConfiguration
  ) {
    if isNamed {
      retries.conditions.insert(condition)
    } else if retries.conditions.contains(condition), !view.isBroken(key), !view[key].exists {
      view["on"].error(
        "`\(view.path).on` has `\(condition.rawValue)`, but `\(view.path).\(key)` is not set",
        condition == .retriableHeaders
          ? "add `response_headers: { Name: value }`" : "add for example `status_codes: [409, 429]`")
    }
  }

  /// `health` and `outliers` of a cluster.
  func availability(_ view: TreeView, _ cluster: inout ClusterConfiguration) {
    view["health"]["panic"].int.assign(to: &cluster.panicPercent)
    if view["health"].exists { cluster.health = health(view["health"], cluster) }
    let outliers = view["outliers"]
    if outliers.isScalar {
      if outliers.bool == false { cluster.outliers = nil }
    } else if outliers.exists {
      var value = OutlierConfiguration()
      outliers["consecutive_5xx"].int.assign(to: &value.consecutive5xx)
      outliers["interval"].duration.assign(to: &value.interval)
      outliers["ejection"].duration.assign(to: &value.ejection)
      outliers["max_ejection"].duration.assign(to: &value.maxEjection)
      outliers["max_percent"].int.assign(to: &value.maxPercent)
      cluster.outliers = value
    }
  }

  private func health(_ view: TreeView, _ cluster: ClusterConfiguration) -> HealthCheckConfiguration? {
    var probes: [HealthCheckConfiguration.Probe] = []
    if let path = view["http"].text { probes.append(.http(path: path)) }
    if view["tcp"].bool == true { probes.append(.tcp) }
    if let service = view["grpc"].text { probes.append(.grpc(service: service == "true" ? "" : service)) }
    guard let probe = probes.first, probes.count == 1 else {
      if ["http", "tcp", "grpc"].contains(where: view.isBroken) { return nil }
      view.error(
        probes.isEmpty ? "`\(view.path)` does not say what to ask" : "`\(view.path)` names \(probes.count) checks",
        probes.isEmpty
          ? "write `http: /healthz`, `tcp: true` or `grpc: true`" : "keep one of `http`, `tcp` and `grpc`")
      return nil
    }
    var health = HealthCheckConfiguration(probe)
    view["interval"].duration.assign(to: &health.interval)
    view["timeout"].duration.assign(to: &health.timeout)
    view["unhealthy"].int.assign(to: &health.unhealthy)
    view["healthy"].int.assign(to: &health.healthy)
    health.host = view["host"].text
    health.port = view["port"].int
    if view["status"].exists { health.statuses = view["status"].elements.compactMap(statuses) }
    if let host = health.host, !HeaderName.isValidValue(host) || host.isEmpty {
      view["host"].error("`\(view.path).host` is not a host", "write `name` or `name:port`")
    }
    if case .http = probe {
    } else {
      for key in ["status", "host"] where view[key].exists && !(key == "host" && probe != .tcp) {
        view[key].error("`\(view.path).\(key)` is of HTTP checks", "remove it, or write `http: /healthz`")
      }
    }
    if case .grpc(let service) = probe {
      if cluster.spoken == .http1 || cluster.spoken == .auto && cluster.tls == nil {
        view["grpc"].error("`\(view.path).grpc` needs HTTP/2", "add `protocol: http2` to the cluster, or `tls`")
      }
      if service.utf8.count > 1000 || service == "false" {
        view["grpc"].error("`\(view.path).grpc` is not a service", "write `package.Service`, or `true`")
      }
    }
    return health
  }

  /// `200` or `200-299`.
  private func statuses(_ view: TreeView) -> ClosedRange<Int>? {
    let text = view.text ?? ""
    let bounds = text.split(separator: "-", omittingEmptySubsequences: false).map { $0.count == 3 ? Int($0) : nil }
    if bounds.count <= 2, let first = bounds.first ?? nil, let last = bounds.last ?? nil, first >= 200, last >= first {
      return first...last
    }
    view.error("`\(PlainText.shown(text))` is not a status or a range of them", "write for example `200` or `200-399`")
    return nil
  }
}
