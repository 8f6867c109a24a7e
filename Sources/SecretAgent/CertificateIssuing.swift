import Logging
import Secrets

extension SecretAgent {
  /// Has a certificate issued and issued again at ⅔ of its life, until the task is cancelled.
  func keepIssued(_ value: SecretValueConfiguration, _ request: CertificateRequest, _ store: VaultStore) async {
    var random = SystemRandomNumberGenerator()
    let key = LeaseKey(certificate: request, name: value.name)
    // A reload issues nothing anew.
    let known = book.fields(value.name) == nil ? nil : await store.certificates[key]
    var schedule = known ?? CertificateSchedule()
    let bell = polls[value.name] ?? Doorbell()
    while !Task.isCancelled {
      let wait = schedule.wait(at: SystemTime.uptime, wall: SystemTime.now)
      if wait > .zero {
        if await bell.wait(for: wait) { schedule.refreshNow(at: SystemTime.uptime) }
        continue
      }
      do throws(VaultFailure) {
        let signing = try request.isLocal ? SigningRequest(request) : nil
        let reply = try await store.write(request.path, request.body(signing: signing?.text))
        let issued = try VaultCertificate(issue: reply, key: signing?.privateKey)
        if Task.isCancelled { return }
        schedule.issued(wall: SystemTime.now, expires: issued.expires, using: &random)
        await store.remember(key, schedule)
        let rotated = book.publish(value.name, issued.fields, version: issued.serial, expires: issued.expires)
        if ledger.succeeded(value.name, rotated: rotated) { logger.info("secret `\(value.name)`: issued again") }
      } catch {
        if Task.isCancelled { return }
        schedule.failed(at: SystemTime.uptime, wall: SystemTime.now, using: &random)
        if ledger.failed(value.name, "\(request.path) in \(store.address): \(error)"), let expires = schedule.expires {
          let until = SystemTime.text(expires)
          logger.warning(
            "secret `\(value.name)`: \(request.path): \(error); the last certificate stays in use, valid until \(until)"
          )
        }
      }
      progress.ring()
    }
  }
}
