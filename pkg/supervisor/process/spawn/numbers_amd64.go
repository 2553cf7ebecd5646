package spawn

const sysMemfdCreate = 319
