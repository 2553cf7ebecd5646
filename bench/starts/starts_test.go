package starts

import (
	"context"
	"debug/elf"
	"errors"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/bench/rig"
	"github.com/supervisord-go/supervisord/bench/turn"
)

var kit *Kit

func TestMain(m *testing.M) {
	var err error
	if kit, err = Build(context.Background()); err != nil {
		log.Fatal(err)
	}
	status := m.Run()
	if err := kit.Remove(); err != nil {
		log.Fatal(err)
	}
	os.Exit(status)
}

// few takes little time, and looks in the end for what is left of it.
func few(t *testing.T) Options {
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(kit.dir, "run*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if pids := rig.Running(kit.dir); len(pids) > 0 {
			t.Errorf("left: processes %v", pids)
		}
	})
	return Options{Starts: 5, Turn: 2, Sizes: []int{1, 40}, AtOnce: []int{1, 3}, Say: t.Logf}
}

func TestEachRowHasItsStarts(t *testing.T) {
	r, err := kit.Run(t.Context(), few(t))
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, why := range r.Without {
		way, _, _ := strings.Cut(why, ": ")
		left[way] = true
	}
	if left[turn.Exec] || left[turn.Template] || left[turn.Sessions] {
		t.Errorf("left out: %q", r.Without)
	}
	if want := 4 * (len(ways) - len(r.Without)); len(r.Rows) != want || !r.Whole {
		t.Fatalf("%d rows, want %d; whole: %v", len(r.Rows), want, r.Whole)
	}
	for _, row := range r.Rows {
		if len(row.took) != 5 || row.quantile(0) <= 0 || row.each() <= 0 {
			t.Errorf("%s, %d MB, %d at once: took %v, %v each", row.Way, row.Size, row.AtOnce, row.took, row.each())
		}
		if row.Size == 40 && row.RSS < 40<<10 {
			t.Errorf("%s: a starter of 40 MB has %d KiB", row.Way, row.RSS)
		}
	}
	if r.Template == 0 || r.Template > 8<<10 { // with cgo it would be as large as a starter
		t.Errorf("the template has %d KiB", r.Template)
	}
}

// waits is the machine code of pause(2), or of ppoll(2) for ever.
var waits = map[string]struct {
	machine elf.Machine
	code    []byte
}{
	"amd64": {elf.EM_X86_64, []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05}},
	"arm64": {elf.EM_AARCH64, []byte{
		0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, // mov x0, 0 … x2
		0x03, 0x00, 0x80, 0xd2, 0x04, 0x00, 0x80, 0xd2, // … x4
		0x28, 0x09, 0x80, 0xd2, // mov x8, 73
		0x01, 0x00, 0x00, 0xd4, // svc 0
	}},
}

// A program that does not end is not waited for, and not left, by whoever interrupts
// the measurement of it.
func TestProgramThatDoesNotEnd(t *testing.T) {
	of, ok := waits[runtime.GOARCH]
	if !ok {
		t.Skip("needs a least program for " + runtime.GOARCH)
	}
	text, err := executable(of.machine, of.code)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := few(t)
	o.Program = filepath.Join(dir, "waits")
	if err := os.WriteFile(o.Program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for { // until it runs
			for _, pid := range rig.Running(kit.dir) {
				if exe, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe")); filepath.Base(exe) == "waits" {
					cancel()
					return
				}
			}
			if t.Context().Err() != nil {
				return
			}
		}
	}()
	r, err := kit.Run(ctx, o)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "stopped") || r.Whole {
		t.Errorf("whole: %v, error %v", r.Whole, err)
	}
}

func TestProgramThatCannotBeStarted(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte(elf.ELFMAG+"and no more"), 0o755); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{
		script:                     "is not an ELF file",
		filepath.Join(dir, "none"): "no such file",
		broken:                     "exec format error",
	} {
		o := few(t)
		o.Program = program
		if _, err := kit.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want one with %q", filepath.Base(program), err, want)
		}
	}
}
