package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
)

// journalSocket is where systemd-journald takes messages, see systemd.io/JOURNAL_NATIVE_PROTOCOL.
const journalSocket = "/run/systemd/journal/socket"

// journalPatience is how long a message waits for a journal that is busy.
const journalPatience = time.Second

// A journal sends what services write to systemd's journal. The package of go-systemd
// for that waits without an end, and on a socket that is not connected, on which Go may
// miss that there is room again.
type journal struct {
	path string
	told func(error) // of the first message that is lost, and nil when one gets through again

	mu   sync.Mutex
	conn *net.UnixConn
	err  error
}

// send has the priority that a line says it has, `<3>` to `<7>` before its text, as
// SyslogLevelPrefix= of systemd.exec(5) has it; else info.
func (j *journal) send(service string, m logs.Meta, line []byte) error {
	priority, text := priorityOf(line)
	var b bytes.Buffer
	field(&b, "MESSAGE", string(text))
	field(&b, "PRIORITY", strconv.Itoa(priority))
	field(&b, "SYSLOG_IDENTIFIER", service)
	field(&b, "SUPERVISORD_SERVICE", service)
	field(&b, "SUPERVISORD_INSTANCE", strconv.Itoa(m.Instance))
	field(&b, "SUPERVISORD_GENERATION", strconv.FormatUint(uint64(m.Generation), 10))
	j.mu.Lock()
	err := j.write(b.Bytes())
	changed := (err == nil) != (j.err == nil)
	j.err = err
	j.mu.Unlock()
	if changed {
		j.told(err)
	}
	return err
}

// info is the priority of what says nothing else (syslog(3)).
const info = 6

func priorityOf(line []byte) (priority int, text []byte) {
	if len(line) >= 3 && line[0] == '<' && line[2] == '>' && '0' <= line[1] && line[1] <= '7' {
		return int(line[1] - '0'), line[3:]
	}
	return info, line
}

// field has the length before a value with newlines in it.
func field(b *bytes.Buffer, name, value string) {
	if bytes.IndexByte([]byte(value), '\n') < 0 {
		fmt.Fprintf(b, "%s=%s\n", name, value)
		return
	}
	fmt.Fprintf(b, "%s\n", name)
	binary.Write(b, binary.LittleEndian, uint64(len(value)))
	fmt.Fprintf(b, "%s\n", value)
}

// write connects anew when the journal was started anew.
func (j *journal) write(message []byte) (err error) {
	for range 2 {
		if j.conn == nil {
			if j.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: j.path, Net: "unixgram"}); err != nil {
				return err
			}
		}
		j.conn.SetWriteDeadline(time.Now().Add(journalPatience))
		if _, err = j.conn.Write(message); err == nil {
			return nil
		}
		j.conn.Close()
		j.conn = nil
	}
	return err
}
