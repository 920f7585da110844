/** Something that the user can mend: the text is all that is shown. */
export class Failure extends Error {}
