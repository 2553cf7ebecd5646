// Starter is as large as a supervisord and starts a program in one way, as often as
// it is told to (package turn).
//
//	starter WAY MEGABYTES DIR PROGRAM
//
// DIR is for what it makes. PROGRAM must end by itself; what has not ended after a
// minute, or when the starter gets SIGTERM, is killed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/bench/turn"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "starter:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: starter WAY MEGABYTES DIR PROGRAM")
	}
	megabytes, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	if err := process.Harden(); err != nil {
		return err
	}
	w, without, err := open(args[0], args[2], args[3])
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if without != "" {
		return out.Encode(turn.Hello{Without: without})
	}
	defer w.close()
	if err := grow(megabytes); err != nil { // the template was forked while this was small, as it is in supervisord
		return fmt.Errorf("cannot become as large as that: %w", err)
	}
	t := &turns{way: w, terminate: terminate}
	if r := t.do(turn.Order{N: warmUp, AtOnce: 1}); r.Err != "" {
		return errors.New(r.Err)
	}
	if err := out.Encode(turn.Hello{RSS: resident("self"), Template: resident(strconv.Itoa(w.template))}); err != nil {
		return err
	}
	return t.serve(json.NewDecoder(os.Stdin), out)
}

// warmUp is how many starts it takes until the next are like those after it.
const warmUp = 20

func (t *turns) serve(in *json.Decoder, out *json.Encoder) error {
	for {
		var o turn.Order
		if err := in.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(t.do(o)); err != nil {
			return err
		}
	}
}

// grow makes this process as large as that, by memory in small pages: of large ones a
// fork would have less to copy.
func grow(megabytes int) error {
	size := megabytes<<20 - int(resident("self"))<<10
	if size <= 0 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	unix.Madvise(b, unix.MADV_NOHUGEPAGE) // EINVAL from a kernel that has no large ones
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return nil
}

// resident is the memory of a process in KiB; 0: there is no such process.
func resident(pid string) (kib int64) {
	text, _ := os.ReadFile("/proc/" + pid + "/statm")
	var size, pages int64
	fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize()) >> 10
}
