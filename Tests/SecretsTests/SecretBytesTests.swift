import Testing

@testable import Secrets

struct SecretBytesTests {
  @Test func printingShowsTheLengthOnly() {
    let bytes = SecretBytes("hunter2")
    #expect("\(bytes)" == "<7 secret bytes>")
    #expect(bytes == SecretBytes("hunter2"))
    #expect(bytes != SecretBytes("hunter3"))
  }
}
