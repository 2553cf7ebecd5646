package logs

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An index, NAME.log.idx, tells what a log file cannot: who wrote what, and
// when. It is a header and then records of 48 bytes, little endian:
//
//	 0  offset in the log from which the record holds
//	 8  time, unix nanoseconds
//	16  invocation
//	24  generation
//	28  instance
//	32  pid of the main process
//	36  lines that should be before this offset and are lost
//	40  the first four bytes of its $INVOCATION_ID
//	44  CRC-32 (IEEE) of the 44 bytes before
//
// There is one wherever the writer changes, and where the last is [indexBytes]
// or [indexTime] behind. A record is written before the text that it tells of,
// so what is not indexed was not written by what comes after. Records that do
// not pass, or whose offsets go back, are nothing, and what may have been theirs
// is nobody's.
const (
	recordSize = 48
	indexBytes = 64 << 10
	indexTime  = time.Second
)

// indexHeader is the first record of each index.
const indexHeader = "supervisord log index 1, records of 48 bytes\n\n\n\n"

// An entry is one record.
type entry struct {
	Meta
	offset int64
	time   time.Time
	lost   uint32
}

// known: not what precedes the first record.
func (e entry) known() bool { return !e.time.IsZero() }

func (e entry) append(b []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.time.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Invocation))
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Generation))
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Instance))
	b = binary.LittleEndian.AppendUint32(b, uint32(e.PID))
	b = binary.LittleEndian.AppendUint32(b, e.lost)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Tag))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

// decodeEntry reads a record; false: it is none.
func decodeEntry(b []byte) (e entry, ok bool) {
	if len(b) != recordSize || crc32.ChecksumIEEE(b[:44]) != binary.LittleEndian.Uint32(b[44:]) {
		return entry{}, false
	}
	e.offset = int64(binary.LittleEndian.Uint64(b))
	e.time = time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:])))
	e.Invocation = unit.Invocation(binary.LittleEndian.Uint64(b[16:]))
	e.Generation = unit.Generation(binary.LittleEndian.Uint32(b[24:]))
	e.Instance = int(int32(binary.LittleEndian.Uint32(b[28:])))
	e.PID = int(int32(binary.LittleEndian.Uint32(b[32:])))
	e.lost = binary.LittleEndian.Uint32(b[36:])
	e.Tag = Tag(binary.LittleEndian.Uint32(b[40:]))
	return e, e.offset >= 0
}

// A marker reads an index along with its log. at holds for the line at the
// offset that was last gone to; it is unknown where no record tells.
type marker struct {
	r    *bufio.Reader // nil: there is no index, or no more of it
	at   entry
	next entry // the first record behind
	more bool  // there is a next
	torn bool  // something unreadable lies between at and next
	last int64
}

// newMarker reads size bytes of an index; what is no index is as good as none.
func newMarker(r io.Reader) *marker {
	m := &marker{r: bufio.NewReaderSize(r, 16<<10)}
	b := make([]byte, recordSize)
	if _, err := io.ReadFull(m.r, b); err != nil || string(b) != indexHeader {
		m.r = nil
	}
	m.advance()
	return m
}

func (m *marker) advance() {
	m.more, m.torn = false, false
	b := make([]byte, recordSize)
	for m.r != nil && !m.more {
		if n, err := io.ReadFull(m.r, b); err != nil {
			m.r = nil
			m.torn = m.torn || n > 0
			return
		}
		if e, ok := decodeEntry(b); ok && e.offset >= m.last {
			m.next, m.more, m.last = e, true, e.offset
		} else {
			m.torn = true
		}
	}
}

// goTo moves on to an offset, calling lost for lines that are missing before it.
func (m *marker) goTo(offset int64, lost func(entry) bool) bool {
	for m.more && m.next.offset <= offset {
		m.at = m.next
		m.advance()
		if m.at.lost > 0 && !lost(m.at) {
			return false
		}
	}
	if m.torn {
		m.at = entry{}
	}
	return true
}
