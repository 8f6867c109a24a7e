import Glibc
import Testing

@testable import Supervisor

@Suite struct KeptMemoryTests {
  @Test func bytesComeBackUntilTheyAreReplacedOrCleared() throws {
    let memory = try #require(KeptMemory())
    defer { close(memory.descriptor) }
    #expect(memory.read() == nil)
    for bytes in [[1, 2, 3], [], Array(repeating: 7, count: 300_000), [9]] as [[UInt8]] {
      memory.write(bytes)
      #expect(KeptMemory(descriptor: memory.descriptor)?.read() == bytes)
    }
    memory.clear()
    #expect(memory.read() == nil)
  }

  @Test func aPartOfSomethingIsNothing() throws {
    let memory = try #require(KeptMemory())
    defer { close(memory.descriptor) }
    memory.write(Array(0..<200))
    for length in 0..<216 {
      #expect(ftruncate(memory.descriptor, off_t(length)) == 0)
      #expect(memory.read() == nil)
      memory.write(Array(0..<200))
    }
    var byte: UInt8 = 1
    #expect(pwrite(memory.descriptor, &byte, 1, 20) == 1)
    #expect(memory.read() == nil, "the checksum does not fit")
    #expect(KeptMemory(descriptor: 0) == nil && KeptMemory(descriptor: 1000) == nil)
  }
}
