//go:build !amd64

package process

import "golang.org/x/sys/unix"

const sysFstatat = unix.SYS_FSTATAT
