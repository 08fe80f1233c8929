import { describe, expect, test } from 'vitest';
import { normalizeName, requireName } from '../../../gateway/iscsi/names.ts';

describe('a name', () => {
  test.each([
    ['iqn.1993-08.org.debian:01:host', 'iqn.1993-08.org.debian:01:host'],
    ['IQN.2001-04.COM.Example:Disk', 'iqn.2001-04.com.example:disk'],
    ['iqn.2001-04.com.example', 'iqn.2001-04.com.example'],
    ['iqn.1991-05.com.microsoft:host-1.example.com', 'iqn.1991-05.com.microsoft:host-1.example.com'],
    ['iqn.2001-04.com.example::', 'iqn.2001-04.com.example::'],
    ['eui.02004567A425678D', 'eui.02004567a425678d'],
    ['naa.52004567BA64678D', 'naa.52004567ba64678d'],
    ['naa.62004567BA64678D0123456789ABCDEF', 'naa.62004567ba64678d0123456789abcdef'],
    // RFC 3722: compatibility forms, letters that fold, what is mapped to nothing.
    ['iqn.2001-04.com.example:ＤＩＳＫ', 'iqn.2001-04.com.example:disk'],
    ['iqn.2001-04.com.example:straße', 'iqn.2001-04.com.example:strasse'],
    ['iqn.2001-04.com.example:STRASSE', 'iqn.2001-04.com.example:strasse'],
    ['iqn.2001-04.com.example:Ωμέγας', 'iqn.2001-04.com.example:ωμέγασ'],
    ['iqn.2001-04.com.example:di\u00adsk\u200b', 'iqn.2001-04.com.example:disk'],
    ['iqn.2001-04.com.example:e\u0301', 'iqn.2001-04.com.example:é'],
    ['iqn.2001-04.com.example:磁盘', 'iqn.2001-04.com.example:磁盘'],
    ['iqn.2001-04.com.example:ıI', 'iqn.2001-04.com.example:ıi'],
  ])('%s is %s', (given, normal) => {
    expect(normalizeName(given)).toBe(normal);
    expect(normalizeName(normal), 'and stays so').toBe(normal);
  });

  const bad: readonly [string, RegExp][] = [
    ['', /does not begin/],
    ['disk', /does not begin/],
    ['iqn', /does not begin/],
    ['iqn.', /year and month/],
    ['iqn.2001-04', /year and month/],
    ['iqn.2001-13.com.example:disk', /year and month/],
    ['iqn.2001-00.com.example:disk', /year and month/],
    ['iqn.01-04.com.example:disk', /year and month/],
    ['iqn.2001-04.:disk', /year and month/],
    ['iqn.2001-04..com:disk', /year and month/],
    ['iqn.2001-04.com.example:my_disk', /"_" is not allowed/],
    ['iqn.2001-04.com.example:my disk', /U\+0020 is not allowed/],
    ['iqn.2001-04.com.example:my/disk', /"\/" is not allowed/],
    ['iqn.2001-04.com.example:disk\n', /U\+000A is not allowed/],
    ['iqn.2001-04.com.example:a,b', /"," is not allowed/],
    ['iqn.2001-04.com.example:a;b', /";" is not allowed/],
    ['iqn.2001-04.com.example:a@b', /"@" is not allowed/],
    ['iqn.2001-04.com.example:a%b', /"%" is not allowed/],
    ['iqn.2001-04.com.example:\u3000', /U\+0020 is not allowed/],
    ['iqn.2001-04.com.example:\u3002', /U\+3002 is not allowed/],
    ['iqn.2001-04.com.example:\u202eksid', /U\+202E is not allowed/],
    ['iqn.2001-04.com.example:\ue000', /U\+E000 is not allowed/],
    ['iqn.2001-04.com.example:\ufffd', /U\+FFFD is not allowed/],
    ['iqn.2001-04.com.example:\ud800', /U\+D800 is not allowed/],
    ['iqn.2001-04.com.example:\u{e0041}', /U\+E0041 is not allowed/],
    ['eui.02004567A425678', /16 hexadecimal/],
    ['eui.02004567A425678D0', /16 hexadecimal/],
    ['eui.02004567A425678G', /16 hexadecimal/],
    ['naa.52004567BA64678', /16 or 32/],
    ['naa.52004567BA64678D0', /16 or 32/],
    [`iqn.2001-04.com.example:${'x'.repeat(200)}`, /longer than 223 bytes/],
    [`iqn.2001-04.com.example:${'é'.repeat(100)}`, /longer than 223 bytes/],
    ['x'.repeat(100_000), /longer than 223 bytes/],
  ];
  test.each(bad)('%s is none, and it is said why', (given, reason) => {
    expect(normalizeName(given)).toBeUndefined();
    expect(() => requireName(given, 'the initiator')).toThrow(reason);
  });

  test('of 223 bytes is as long as can be', () => {
    const prefix = 'iqn.2001-04.com.example:';
    expect(normalizeName(prefix + 'x'.repeat(223 - prefix.length))).toBeDefined();
    expect(normalizeName(prefix + 'x'.repeat(224 - prefix.length))).toBeUndefined();
  });
});
