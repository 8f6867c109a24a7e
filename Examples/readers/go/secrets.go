// Package secrets reads the secrets of Outrider from shared memory (layout v1); the standard library is enough.
package secrets

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Flags of a publication.
const (
	Ready  = 1
	Stale  = 2
	Closed = 4
)

// ErrStale says that the writer died while it wrote; what was read before is still good.
var ErrStale = errors.New("outrider: the memory of secrets is stale")

// Memory is a mapped segment. It may be used by one goroutine at a time.
type Memory struct {
	bytes []byte
	last  uint32
}

// Snapshot is one whole publication.
type Snapshot struct {
	Flags      uint32
	Generation uint64
	Values     map[string][]byte
}

// Open maps the file of OUTRIDER_SECRETS_PATH, else the descriptor OUTRIDER_SECRETS_FD.
func Open() (*Memory, error) {
	descriptor := -1
	if path := os.Getenv("OUTRIDER_SECRETS_PATH"); path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		descriptor = int(file.Fd())
	} else if number, err := strconv.Atoi(os.Getenv("OUTRIDER_SECRETS_FD")); err == nil {
		descriptor = number
	}
	var status syscall.Stat_t
	if err := syscall.Fstat(descriptor, &status); err != nil {
		return nil, err
	}
	bytes, err := syscall.Mmap(descriptor, 0, int(status.Size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	if len(bytes) < 64 || string(bytes[:8]) != "OUTSEC\x00\x01" {
		_ = syscall.Munmap(bytes)
		return nil, errors.New("outrider: no memory of secrets, layout 1")
	}
	return &Memory{bytes: bytes}, nil
}

// Close ends the mapping.
func (m *Memory) Close() error { return syscall.Munmap(m.bytes) }

func (m *Memory) seq() uint32 { return atomic.LoadUint32((*uint32)(unsafe.Pointer(&m.bytes[16]))) }

// Read copies what is published now; ErrStale after 10 ms without a whole publication.
func (m *Memory) Read() (Snapshot, error) {
	for end := time.Now().Add(10 * time.Millisecond); ; {
		before := m.seq()
		used := int(binary.LittleEndian.Uint32(m.bytes[40:]))
		if before&1 == 0 && used <= len(m.bytes)-64 {
			head := append([]byte(nil), m.bytes[:64]...)
			payload := append([]byte(nil), m.bytes[64:64+used]...)
			if m.seq() == before && crc32.ChecksumIEEE(payload) == binary.LittleEndian.Uint32(head[44:]) {
				m.last = before
				return snapshot(head, payload), nil
			}
		}
		if time.Now().After(end) {
			return Snapshot{}, ErrStale
		}
	}
}

// Wait says whether something was published since the last Read, at the latest after the time.
func (m *Memory) Wait(limit time.Duration) bool {
	for end := time.Now().Add(limit); m.seq() == m.last; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func snapshot(head, payload []byte) Snapshot {
	little := binary.LittleEndian
	values := map[string][]byte{}
	at := 0
	for left := little.Uint32(head[48:]); left > 0; left-- {
		start := at + 32
		middle := start + int(little.Uint16(payload[at+4:]))
		values[string(payload[start:middle])] = payload[middle : middle+int(little.Uint32(payload[at+8:]))]
		at += int(little.Uint32(payload[at:]))
	}
	return Snapshot{Flags: little.Uint32(head[20:]), Generation: little.Uint64(head[24:]), Values: values}
}
