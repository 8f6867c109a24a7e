// As memory_reader.py: node memory_reader.mjs REPORT LAST
import fs from 'node:fs'
import { Secrets } from '../../../Examples/readers/outrider_secrets.mjs'

const [report, last] = process.argv.slice(2)
const memory = new Secrets()
const seen = []
let reads = 0, torn = 0
process.on('SIGTERM', () => process.exit(0))
function round() {
  for (let i = 0; i < 200; i++) {
    let values
    try {
      values = memory.read().values
    } catch {
      continue // The writer was interrupted for more than 10 ms.
    }
    reads++
    const user = values.get('db.user').toString(), password = values.get('db.password').toString()
    if (user.split('-').pop() !== password.split('-').pop()) torn++
    if (seen.at(-1) !== password) {
      seen.push(password)
      fs.writeFileSync(report + '.new', JSON.stringify({ reads, torn, seen }))
      fs.renameSync(report + '.new', report)
    }
    if (password === last) return setInterval(() => {}, 1000)
  }
  setImmediate(round)
}
round()
