/* Which form of a kernel a processor takes, where there are several; no other is compiled.
 *
 * SCALPEL_MVE  Helium (Armv8.1-M), integers are enough: scalpel_*_mve.{h,c}
 * SCALPEL_DSP  else the DSP extension: scalpel_*_dsp.S
 * Neither: plain C.
 */
#ifndef SCALPEL_TIER_H
#define SCALPEL_TIER_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define SCALPEL_MVE 1
#else
#define SCALPEL_MVE 0
#endif

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !SCALPEL_MVE
#define SCALPEL_DSP 1
#else
#define SCALPEL_DSP 0
#endif

#endif /* SCALPEL_TIER_H */
