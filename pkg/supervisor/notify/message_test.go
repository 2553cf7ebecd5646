package notify

import (
	"math"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func TestParse(t *testing.T) {
	ready := unit.Notice{Ready: true}
	for _, c := range []struct {
		text string
		want Message
	}{
		{"READY=1", Message{Notice: ready, Fields: 1}},
		{"READY=1\n", Message{Notice: ready, Fields: 1}},
		{"READY=1\x00", Message{Notice: ready, Fields: 1}},
		{"\n\nREADY=1\n\nSTATUS=\n", Message{Notice: ready, Status: new(""), Fields: 2}},
		{"ready=1\nREADY\n=1\nREADY =1\n READY=1", Message{}},
		{"READY=0", Message{Fields: 1}},
		{"READY=1\nREADY=0", Message{Notice: ready, Fields: 1}},
		{"STATUS=a\nSTATUS=b\nX_Y=c", Message{Status: new("a"), Fields: 1}},
		{"STATUS=50% = half", Message{Status: new("50% = half"), Fields: 1}},
		{"STATUS=\xff", Message{Fields: 1}},
		{"READY=1\nSTOPPING=1\nRELOADING=1", Message{Notice: unit.Notice{Stopping: true}, Fields: 3}},
		{"RELOADING=1\nMONOTONIC_USEC=123", Message{Reloading: true, Fields: 2}},
		{"RELOADING=1\nREADY=1", Message{Notice: ready, Fields: 2}},
		{"WATCHDOG=1", Message{Notice: unit.Notice{Ping: true}, Fields: 1}},
		{"WATCHDOG=trigger\nWATCHDOG=1", Message{Notice: unit.Notice{Trigger: true}, Fields: 1}},
		{"WATCHDOG=2", Message{Fields: 1}},
		{"ERRNO=0", Message{Errno: new(0), Fields: 1}},
		{"ERRNO=4095", Message{Errno: new(4095), Fields: 1}},
		{"ERRNO=4096", Message{Fields: 1}},
		{"ERRNO=-2", Message{Fields: 1}},
		{"ERRNO=ENOENT", Message{Errno: new(int(syscall.ENOENT)), Fields: 1}},
		{"ERRNO=ENONSENSE", Message{Fields: 1}},
		{"ERRNO=", Message{Fields: 1}},
		{"BARRIER=1", Message{Barrier: true, Fields: 1}},
		{"BARRIER=1\n", Message{Barrier: true, Fields: 1}},
		{"BARRIER=0\nREADY=1", Message{Notice: ready, Fields: 1}},
		{"FDSTORE=1\nFDNAME=a\nREADY=1", Message{Notice: ready, Fields: 3, Later: []string{"FDSTORE", "FDNAME"}}},
		{"MAINPID=1", Message{Fields: 1, Later: []string{"MAINPID"}}},
	} {
		got, err := Parse([]byte(c.text))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q: want -, got +\n%s", c.text, d)
		}
	}
}

func TestParseRefusesTheWholeMessage(t *testing.T) {
	for text, want := range map[string]error{
		"":                                       empty,
		"\x00":                                   empty,
		"READY=1\x00\x00":                        hasNUL,
		"REA\x00DY=1":                            hasNUL,
		"READY=1\nBARRIER=1":                     mixed,
		"BARRIER=1\nBARRIER=1":                   mixed,
		strings.Repeat("x", MaxMessage+1):        tooLong,
		strings.Repeat("x", MaxMessage) + "\x00": tooLong,
	} {
		if m, err := Parse([]byte(text)); err != want {
			t.Errorf("%.20q: got %+v, %v, want %v", text, m, err, want)
		}
	}
	longest := "STATUS=" + strings.Repeat("x", MaxMessage-7)
	if m, err := Parse([]byte(longest)); err != nil || len(*m.Status) != MaxMessage-7 {
		t.Errorf("the longest: %v", err)
	}
}

// T46: no number overflows.
func TestExtensionsSaturate(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1":                                    time.Microsecond,
		"90000000":                             90 * time.Second,
		"0":                                    0,
		"-1":                                   0,
		"1.5":                                  0,
		"":                                     0,
		" 1":                                   0,
		"9223372036854775":                     9223372036854775 * time.Microsecond,
		"9223372036854776":                     unit.Infinity,
		strconv.FormatUint(math.MaxInt64, 10):  unit.Infinity,
		"18446744073709551614":                 unit.Infinity,
		"18446744073709551615":                 0, // infinity to systemd, which ignores it
		"18446744073709551616":                 0,
		"999999999999999999999999999999999999": 0,
	} {
		m, err := Parse([]byte("EXTEND_TIMEOUT_USEC=" + text))
		if err != nil || m.Notice.Extend != want {
			t.Errorf("%q: got %v, %v, want %v", text, m.Notice.Extend, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"READY=1\nSTATUS=ok", "BARRIER=1", "ERRNO=EPERM", "EXTEND_TIMEOUT_USEC=18446744073709551615", "WATCHDOG=trigger\x00", "=\n==\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		switch {
		case err != nil && !cmp.Equal(m, Message{}):
			t.Errorf("something is left of what was refused: %+v", m)
		case err == nil && len(b) > MaxMessage:
			t.Error("too long")
		case m.Barrier && (m.Fields != 1 || strings.Trim(string(b), "\n\x00") != "BARRIER=1"):
			t.Errorf("a barrier that is not alone: %+v", m)
		case m.Notice.Stopping && (m.Notice.Ready || m.Reloading), m.Notice.Ready && m.Reloading, m.Notice.Ping && m.Notice.Trigger:
			t.Errorf("contradiction: %+v", m)
		case m.Notice.Extend < 0, m.Errno != nil && (*m.Errno < 0 || *m.Errno > maxErrno):
			t.Errorf("out of range: %+v", m)
		case m.Status != nil && (!utf8.ValidString(*m.Status) || strings.ContainsAny(*m.Status, "\n\x00")):
			t.Errorf("status %q", *m.Status)
		case len(m.Later) > m.Fields:
			t.Errorf("fields: %+v", m)
		}
	})
}
