/** Names of the environment variables that lib sets and the handlers read. */
export const ENV_BUCKET = 'FARSHORE_BUCKET';
export const ENV_TABLE = 'FARSHORE_TABLE';
