/** Function identifiers (RFC 4171 4.1.3); a response has the leading bit set (5.1.2). */
export const FUNCTION = { register: 0x0001, query: 0x0002, deregister: 0x0004 } as const;
export const RESPONSE_BIT = 0x8000;

/** Bits of the FLAGS field (RFC 4171 5.1.4; bit 16 is the field's most significant). */
export const FLAG = {
  client: 0x8000,
  server: 0x4000,
  authentication: 0x2000,
  replace: 0x1000,
  last: 0x0800,
  first: 0x0400,
} as const;

export const VERSION = 0x0001;
export const HEADER_BYTES = 12;

/** Attribute tags (RFC 4171 6.1). */
export const TAG = {
  delimiter: 0,
  entityIdentifier: 1,
  entityProtocol: 2,
  registrationPeriod: 6,
  portalAddress: 16,
  portalPort: 17,
  iscsiName: 32,
  iscsiNodeType: 33,
  iscsiAlias: 34,
  groupPortalAddress: 49,
  groupPortalPort: 50,
  groupTag: 51,
} as const;

/** Entity Protocol iSCSI (RFC 4171 6.2.2) and the Target bit of the iSCSI Node Type (6.4.2). */
export const ENTITY_PROTOCOL_ISCSI = 2;
export const NODE_TYPE_TARGET = 1;

/** Of strings, their NUL and padding included (RFC 4171 6.1). */
export const MAX_ENTITY_BYTES = 256;
export const MAX_NAME_BYTES = 224;
export const MAX_ALIAS_BYTES = 256;

export const STATUS = { successful: 0, noSuchEntry: 9, featureNotSupported: 23 } as const;

/** Response status codes (RFC 4171 5.4). */
const STATUS_TEXT: readonly string[] = [
  'Successful',
  'Unknown Error',
  'Message Format Error',
  'Invalid Registration',
  'RESERVED',
  'Invalid Query',
  'Source Unknown',
  'Source Absent',
  'Source Unauthorized',
  'No Such Entry',
  'Version Not Supported',
  'Internal Error',
  'Busy',
  'Option Not Understood',
  'Invalid Update',
  'Message Not Supported',
  'SCN Event Rejected',
  'SCN Registration Rejected',
  'Attribute Not Implemented',
  'FC_DOMAIN_ID Not Available',
  'FC_DOMAIN_ID Not Allocated',
  'ESI Not Available',
  'Invalid Deregistration',
  'Registration Feature Not Supported',
];

export function statusText(status: number): string {
  return `${STATUS_TEXT[status] ?? 'reserved'} (${status})`;
}
