package rig

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// Queue is how many connections to an address of IPv4 wait to be accepted: at all its
// listening sockets, from proc_net_tcp(5). The kernel lists those first, and nothing
// else of the table is read.
func Queue(address string) (int, error) {
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	want, err := procAddress(address)
	if err != nil {
		return 0, err
	}
	return queueIn(f, want)
}

// procAddress is an address as the table has it: in hexadecimal, the bytes of the IP in
// the machine's order.
func procAddress(address string) (string, error) {
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return "", err
	}
	ip := a.IP.To4()
	if ip == nil {
		return "", fmt.Errorf("%s is no address of IPv4", address)
	}
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip), a.Port), nil
}

// listening is the state of such a socket, TCP_LISTEN.
const listening = "0A"

func queueIn(table io.Reader, want string) (n int, err error) {
	lines := bufio.NewScanner(table)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			return 0, fmt.Errorf("cannot read the kernel's table of sockets: %q", lines.Text())
		}
		if fields[3] != listening {
			break
		}
		if fields[1] != want {
			continue
		}
		_, waiting, _ := strings.Cut(fields[4], ":")
		k, err := strconv.ParseInt(waiting, 16, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot read the kernel's table of sockets: %w", err)
		}
		n += int(k)
	}
	return n, lines.Err()
}
