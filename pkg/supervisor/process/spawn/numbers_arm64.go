package spawn

const sysMemfdCreate = 279
