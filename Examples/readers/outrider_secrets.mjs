// Secrets of Outrider from shared memory (layout v1), for Node 18 and later, without a native module: the memory is read
// through its descriptor, and seq and checksum tell a whole publication from a torn one.
//
//   const secrets = new Secrets()            // OUTRIDER_SECRETS_PATH or OUTRIDER_SECRETS_FD
//   secrets.get('db.password')               // a Buffer
//   for await (const all of secrets.changes()) …
import fs from 'node:fs'

const CLOSED = 4

const table = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1
  return value
})

function crc32(bytes) {
  let value = 0xffffffff
  for (const byte of bytes) value = table[(value ^ byte) & 255] ^ (value >>> 8)
  return ~value >>> 0
}

export class Secrets {
  constructor() {
    this.open()
  }

  open() {
    const { OUTRIDER_SECRETS_PATH: path, OUTRIDER_SECRETS_FD: number } = process.env
    if (this.own) fs.closeSync(this.fd)
    this.own = Boolean(path)
    this.fd = path ? fs.openSync(path, 'r') : Number(number)
    if (this.at(0, 8).toString('latin1') !== 'OUTSEC\0\x01') throw new Error('no memory of Outrider, layout 1')
    this.last = undefined
  }

  at(offset, length) {
    const bytes = Buffer.alloc(length)
    const count = fs.readSync(this.fd, bytes, 0, length, offset)
    return bytes.subarray(0, count)
  }

  seq() {
    return this.at(16, 4).readUInt32LE(0)
  }

  // { flags, generation, values } of one publication; throws after 10 ms without one: the writer died while it wrote.
  read() {
    const end = performance.now() + 10
    do {
      const head = this.at(0, 64)
      const seq = head.readUInt32LE(16)
      const payload = this.at(64, head.readUInt32LE(40))
      if (!(seq & 1) && this.seq() === seq && crc32(payload) === head.readUInt32LE(44)) {
        this.last = seq
        const values = new Map()
        for (let at = 0, left = head.readUInt32LE(48); left > 0; left--) {
          const start = at + 32, middle = start + payload.readUInt16LE(at + 4)
          values.set(payload.toString('utf8', start, middle), payload.subarray(middle, middle + payload.readUInt32LE(at + 8)))
          at += payload.readUInt32LE(at)
        }
        return { flags: head.readUInt32LE(20), generation: head.readBigUInt64LE(24), values }
      }
    } while (performance.now() < end)
    throw new Error('stale: the writer died while it wrote')
  }

  get(name) {
    let now = this.read()
    if (now.flags & CLOSED) {
      this.open()
      now = this.read()
    }
    return now.values.get(name)
  }

  // Every publication from now on; looks every 20 ms.
  async *changes() {
    for (;;) {
      if (this.seq() !== this.last) yield this.read()
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
