package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
)

// flushTime is how long the end waits for those who read what we print.
const flushTime = time.Second

// An output is what supervisord prints while it serves: its own log to stderr, and
// what services wrote to stdout. Nobody waits for whoever reads it.
type output struct {
	own       *logs.Outlet
	forwarded *logs.Outlet
}

func newOutput() *output {
	o := &output{}
	o.own = logs.NewOutlet(int(os.Stderr.Fd()), func(lost uint64) []byte {
		var line bytes.Buffer
		o.warn(&line, lost, "this log: stderr")
		return line.Bytes()
	}, nil)
	o.forwarded = logs.NewOutlet(int(os.Stdout.Fd()), nil, func(lost uint64) { o.warn(o.own, lost, "the services' output: stdout") })
	return o
}

// warn says that lines are missing.
func (o *output) warn(w io.Writer, lost uint64, where string) {
	l := logger(w, term.IsTerminal(int(os.Stderr.Fd())))
	l.Warn().Uint64("lines", lost).Msgf("lost %d lines of %s could not be written in time", lost, where)
}

// flush gives those who read a last chance. One that is stuck keeps nobody here.
func (o *output) flush() {
	var both sync.WaitGroup
	for _, outlet := range []*logs.Outlet{o.own, o.forwarded} {
		both.Go(func() { outlet.Flush(flushTime) })
	}
	both.Wait()
}

// log is supervisord's own log.
func (o *output) log(level string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Logger{}, fmt.Errorf("log_level %q: %w", level, err)
	}
	return logger(o.own, term.IsTerminal(int(os.Stderr.Fd()))).Level(l), nil
}

// logger writes lines for people on a terminal, else JSON; for systemd's journal with
// the level before it.
func logger(w io.Writer, terminal bool) zerolog.Logger {
	switch {
	case terminal:
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != ""}
	case isJournal(os.Getenv("JOURNAL_STREAM"), int(os.Stderr.Fd())):
		w = leveled{w}
	}
	return zerolog.New(w).With().Timestamp().Logger()
}

// journal is where the output of services goes that are to have it there.
func (o *output) journal() *journal {
	return &journal{path: journalSocket, told: func(err error) {
		l := logger(o.own, term.IsTerminal(int(os.Stderr.Fd())))
		if err != nil {
			l.Warn().Msgf("lines of services with forward = \"journal\" are lost: %v", err)
			return
		}
		l.Info().Msg("the journal takes lines of services again")
	}}
}

// forward is where the output of services goes that are to show it.
func (o *output) forward() io.Writer {
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return printer{o.forwarded.Patient()}
	}
	return o.forwarded.Patient()
}
