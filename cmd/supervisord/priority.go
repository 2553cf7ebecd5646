package main

import (
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// isJournal says whether a descriptor leads to systemd's journal: systemd says which
// file that is, in $JOURNAL_STREAM (systemd.exec(5)), which children inherit that write
// elsewhere.
func isJournal(stream string, fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// A leveled writer puts the priority of a line before it, by which the journal knows it
// (sd-daemon(3)).
type leveled struct{ io.Writer }

func (l leveled) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	if _, err := l.Write(append(fmt.Appendf(nil, "<%d>", priorityOfLevel(level)), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priorityOfLevel is that of syslog(3).
func priorityOfLevel(level zerolog.Level) int {
	switch level {
	case zerolog.DebugLevel, zerolog.TraceLevel:
		return 7
	case zerolog.WarnLevel:
		return 4
	case zerolog.ErrorLevel:
		return 3
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return 2
	}
	return info
}
