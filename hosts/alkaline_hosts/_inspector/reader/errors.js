// What every part of the reader refuses with.

/** Bytes that are refused. `code`: foreign, damaged, sealed, newer or missing; `at` says where, if that is known. */
export class Refused extends Error {
  constructor(code, message, at = null) {
    super(message);
    this.name = "Refused";
    this.code = code;
    this.at = at;
  }
}

export const damaged = (message, at = null) => new Refused("damaged", message, at);
